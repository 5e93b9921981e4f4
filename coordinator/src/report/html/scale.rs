//! Where a value stands on an axis, and which values get a tick.

/// Most ticks of an axis; more would run into each other.
const MOST_TICKS: usize = 8;

/// An axis from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// Evenly from 0 to a value.
    pub(super) fn from_zero(to: f64) -> Self {
        Scale { from: 0.0, to: if to > 0.0 { to } else { 1.0 }, logarithmic: false }
    }

    /// Each tenfold takes the same room. Both values are above 0.
    pub(super) fn logarithmic(from: f64, to: f64) -> Self {
        let from = from.max(f64::MIN_POSITIVE);
        Scale { from, to: if to > from { to } else { from * 10.0 }, logarithmic: true }
    }

    /// 0 at its start, 1 at its end; what lies outside is at the nearer one.
    pub(super) fn at(&self, value: f64) -> f64 {
        let part = match self.logarithmic {
            true => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        part.clamp(0.0, 1.0)
    }

    /// The value at a part of it; the inverse of [`Scale::at`].
    pub(super) fn value(&self, part: f64) -> f64 {
        match self.logarithmic {
            true => self.from * (self.to / self.from).powf(part),
            false => self.from + (self.to - self.from) * part,
        }
    }

    /// Round values within it, ascending.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.logarithmic { self.powers() } else { self.steps() }
    }

    /// Powers of ten, with their 2s and 5s where there are few.
    fn powers(&self) -> Vec<f64> {
        let (first, last) = (self.from.log10().floor() as i32, self.to.log10().ceil() as i32);
        let within = |value: &f64| *value >= self.from * (1.0 - 1e-9) && *value <= self.to * (1.0 + 1e-9);
        let ticks = |factors: &[f64]| -> Vec<f64> {
            let all = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
            all.filter(within).collect()
        };
        let fine = ticks(&[1.0, 2.0, 5.0]);
        if fine.len() <= MOST_TICKS { fine } else { ticks(&[1.0]) }
    }

    /// Multiples of 1, 2 or 5 times a power of ten.
    fn steps(&self) -> Vec<f64> {
        let rough = (self.to - self.from) / (MOST_TICKS - 2) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let least = (self.from / step).ceil() as i64;
        (least..).map(|n| n as f64 * step).take_while(|tick| *tick <= self.to * (1.0 + 1e-9)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "round values are exact")]

    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(Scale::from_zero(10.0).ticks(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Scale::from_zero(0.0).ticks().first(), Some(&0.0));
        assert_eq!(Scale::logarithmic(1.0, 1000.0).ticks(), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(Scale::logarithmic(3.0, 30.0).ticks(), [5.0, 10.0, 20.0]);
        for to in [0.3, 7.0, 23.0, 1e9] {
            let ticks = Scale::from_zero(to).ticks();
            assert!((3..=MOST_TICKS + 1).contains(&ticks.len()), "{to}: {ticks:?}");
        }
    }

    #[test]
    fn places_and_values_lead_to_each_other() {
        for scale in [Scale::from_zero(80.0), Scale::logarithmic(0.5, 9_000.0), Scale::logarithmic(4.0, 4.0)] {
            assert_eq!((scale.at(f64::MIN), scale.at(f64::MAX)), (0.0, 1.0));
            for part in [0.0, 0.25, 1.0] {
                assert!((scale.at(scale.value(part)) - part).abs() < 1e-9, "{scale:?} {part}");
            }
        }
    }
}
