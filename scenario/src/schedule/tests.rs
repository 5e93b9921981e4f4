//! Tests of schedules against their closed forms, their distributions and their parts.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::Share;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn curve(points: &[(f64, f64, Duration)]) -> Curve {
    Curve { segments: points.iter().map(|&(from, to, length)| Segment { from, to, length }).collect() }
}

fn uniform(rate: &Curve) -> Schedule {
    Schedule::new(rate, Arrivals::Uniform, 1, 0)
}

fn poisson(rate: &Curve, seed: u64) -> Schedule {
    Schedule::new(rate, Arrivals::Poisson, seed, 0)
}

fn offsets(schedule: &Schedule) -> Vec<Duration> {
    (0..schedule.total()).map(|k| schedule.offset(k).unwrap()).collect()
}

/// The integral from the start to an offset, summed piece by piece.
fn integral(curve: &Curve, to: f64) -> f64 {
    let mut start = 0.0;
    let mut sum = 0.0;
    for segment in &curve.segments {
        let length = segment.length.as_secs_f64();
        let part = (to - start).clamp(0.0, length);
        sum += segment.from * part + (segment.to - segment.from) / length * part * part / 2.0;
        start += length;
    }
    sum
}

fn any_curve(most: f64) -> impl Strategy<Value = Curve> {
    let value = prop_oneof![Just(0.0), (0.0..most), (0.0..most).prop_map(f64::round)];
    let segment = (value.clone(), value, any::<bool>(), 1_u64..20_000).prop_map(|(from, to, level, ms)| {
        let length = Duration::from_millis(ms);
        Segment { from, to: if level { from } else { to }, length }
    });
    prop::collection::vec(segment, 1..5).prop_map(|segments| Curve { segments })
}

fn any_arrivals() -> impl Strategy<Value = Arrivals> {
    prop_oneof![Just(Arrivals::Uniform), Just(Arrivals::Poisson)]
}

/// Critical values of the Kolmogorov-Smirnov test for p = 0.05 and, for several tests at once, p = 0.01: Stephens, "EDF
/// statistics for goodness of fit", JASA 69 (1974), with its correction for finite samples below.
const P_05: f64 = 1.358;
const P_01: f64 = 1.628;

/// Is a sample's p-value under a distribution that of the critical value or more?
fn is_plausible(critical: f64, mut sample: Vec<f64>, distribution: impl Fn(f64) -> f64) -> bool {
    sample.sort_by(f64::total_cmp);
    let n = sample.len() as f64;
    let distance = sample.iter().enumerate().map(|(i, value)| {
        let expected = distribution(*value);
        (expected - i as f64 / n).abs().max((expected - (i as f64 + 1.0) / n).abs())
    });
    distance.fold(0.0, f64::max) * (n.sqrt() + 0.12 + 0.11 / n.sqrt()) <= critical
}

#[test]
fn a_constant_rate_is_exact_to_the_nanosecond() {
    let schedule = uniform(&Curve::constant(300.0, seconds(30)));
    assert_eq!(schedule.total(), 9000);
    assert_eq!(schedule.offset(0), Some(Duration::ZERO));
    assert_eq!(schedule.offset(1), Some(Duration::from_nanos(3_333_333)));
    assert_eq!(schedule.offset(3), Some(Duration::from_millis(10)));
    assert_eq!(schedule.offset(8999), Some(Duration::from_nanos(29_996_666_666)));
    assert_eq!(schedule.offset(9000), None);
}

#[test]
fn rates_by_the_minute_and_hour_are_exact_too() {
    let by_minute = uniform(&Curve::constant(100.0 / 60.0, seconds(3 * 60)));
    assert_eq!((by_minute.total(), by_minute.offset(200)), (300, Some(seconds(120))));
    let by_hour = uniform(&Curve::constant(7.0 / 3600.0, seconds(3600)));
    assert_eq!((by_hour.total(), by_hour.offset(6)), (7, Some(Duration::from_nanos(3_085_714_285_714))));
}

#[test]
fn totals_do_not_suffer_from_binary_fractions() {
    // Each sum is a whole number but for the rounding of floats, on one side or the other.
    for (points, total) in [
        (&[(0.1, 0.1, seconds(2)), (0.2, 0.2, seconds(14))][..], 3),
        (&[(0.0, 300.0, seconds(30)), (300.0, 300.0, seconds(30))], 13_500),
        (&[(1.1, 1.1, seconds(2)), (2.2, 2.2, seconds(14))], 33),
    ] {
        assert_eq!(uniform(&curve(points)).total(), total, "{points:?}");
    }
    assert_eq!(uniform(&Curve::constant(0.3, seconds(4))).total(), 2, "1.2 operations: one at 0 s, one at 3.3 s");
}

#[test]
fn a_ramp_follows_its_closed_form() {
    // The integral of 2t is t²: operation k at √k seconds.
    let schedule = uniform(&curve(&[(0.0, 200.0, seconds(100))]));
    assert_eq!(schedule.total(), 10_000);
    for k in 0..10_000 {
        let off = schedule.offset(k).unwrap().as_secs_f64() - (k as f64).sqrt();
        assert!(off.abs() < 1e-6, "operation {k} is off by {off} s");
    }
}

#[test]
fn a_rate_of_zero_sends_nothing() {
    let schedule = uniform(&curve(&[
        (0.0, 0.0, seconds(5)),
        (10.0, 10.0, seconds(1)),
        (0.0, 0.0, seconds(5)),
        (10.0, 10.0, seconds(1)),
        (0.0, 0.0, seconds(5)),
    ]));
    let mut expected: Vec<_> = (50..60).map(|tenth| Duration::from_millis(tenth * 100)).collect();
    expected.extend((110..120).map(|tenth| Duration::from_millis(tenth * 100)));
    for (offset, expected) in offsets(&schedule).into_iter().zip(&expected) {
        assert!(offset.abs_diff(*expected) < Duration::from_micros(1), "{offset:?}, not {expected:?}");
    }
    assert_eq!(schedule.total(), 20);
    for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
        assert_eq!(Schedule::new(&Curve::constant(0.0, seconds(5)), arrivals, 1, 0).total(), 0);
    }
}

#[test]
fn a_pause_holds_back_the_operation_that_is_due_at_its_start() {
    // The sum before the pause is 3.0000000000000004 in binary.
    let points = [(0.1, 0.1, seconds(2)), (0.2, 0.2, seconds(14)), (0.0, 0.0, seconds(10)), (1.0, 1.0, seconds(2))];
    let schedule = uniform(&curve(&points));
    assert_eq!((schedule.total(), schedule.offset(3)), (5, Some(seconds(26))));
}

#[test]
fn rounding_never_swaps_two_times() {
    let month = seconds(30 * 24 * 3600);
    for (from, to) in [(0.0, 1e7), (3.0, 1000.0), (1e6, 1.1e6), (1e7, 0.0), (7.0, 7.0)] {
        let piece = Piece { start: Duration::ZERO, segment: Segment { from, to, length: month }, before: 0.0 };
        for part in 1..100 {
            // 1,000 neighbouring floats.
            let y = std::iter::successors(Some(f64::from(part) * 1e4), |y| Some(y.next_up())).take(1000);
            assert!(y.map(|y| piece.inverse(y)).is_sorted(), "{from} to {to}, part {part}");
            let y = std::iter::successors(Some(f64::from(part) * 1e10), |y| Some(y.next_up())).take(1000);
            assert!(y.map(|y| piece.inverse(y)).is_sorted(), "{from} to {to}, part {part}");
        }
    }
}

#[test]
fn order_statistics_have_their_own_distributions() {
    let drawn = |k, n| (0..2000).map(|seed| order_statistic(k, n, 1.0, seed, 0)).collect::<Vec<_>>();
    assert!(is_plausible(P_01, drawn(0, 1), |x| x));
    assert!(is_plausible(P_01, drawn(0, 3), |x| 1.0 - (1.0 - x).powi(3)));
    assert!(is_plausible(P_01, drawn(1, 3), |x| 3.0 * x * x - 2.0 * x.powi(3)));
    assert!(is_plausible(P_01, drawn(2, 3), |x| x.powi(3)));
    assert!(is_plausible(P_01, drawn(0, 20), |x| 1.0 - (1.0 - x).powi(20)));
}

#[test]
fn poisson_arrivals_are_spaced_exponentially() {
    for seed in 1..=3 {
        let schedule = poisson(&Curve::constant(100.0, seconds(50)), seed);
        assert_eq!(schedule.total(), 5000);
        let offsets = offsets(&schedule);
        let gaps = offsets.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        assert!(is_plausible(P_05, gaps, |gap| 1.0 - (-100.0 * gap).exp()), "seed {seed}");
    }
}

#[test]
fn evenly_spaced_arrivals_would_not_pass_for_poisson() {
    let gaps = vec![0.01; 5000];
    assert!(!is_plausible(P_05, gaps, |gap| 1.0 - (-100.0 * gap).exp()));
}

#[test]
fn poisson_arrivals_follow_the_rate() {
    let rate = curve(&[(0.0, 200.0, seconds(20)), (200.0, 50.0, seconds(10)), (50.0, 50.0, seconds(10))]);
    let schedule = poisson(&rate, 1);
    let whole = integral(&rate, 40.0);
    assert_eq!(schedule.total(), whole.round() as u64);
    let at = offsets(&schedule).iter().map(Duration::as_secs_f64).collect();
    assert!(is_plausible(P_05, at, |at| integral(&rate, at) / whole));
}

#[test]
fn the_seed_and_the_phase_decide_and_nothing_else() {
    let rate = Curve::constant(10.0, seconds(10));
    assert_eq!(offsets(&poisson(&rate, 7)), offsets(&poisson(&rate, 7)));
    assert_ne!(offsets(&poisson(&rate, 7)), offsets(&poisson(&rate, 8)));
    assert_ne!(offsets(&poisson(&rate, 7)), offsets(&Schedule::new(&rate, Arrivals::Poisson, 7, 1)));
}

#[test]
fn the_greatest_loads_stay_within_their_phase() {
    let month = seconds(30 * 24 * 3600);
    for (rate, total) in [
        (Curve::constant(1e7, month), 25_920_000_000_000),
        (curve(&[(0.0, 1e7, month)]), 12_960_000_000_000),
        (curve(&[(1e7, 1e7, month / 2), (1e7, 0.0, month / 2)]), 19_440_000_000_000),
    ] {
        for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
            let schedule = Schedule::new(&rate, arrivals, 1, 0);
            assert_eq!(schedule.total(), total);
            let sample: Vec<_> =
                [0, 1, total / 2, total / 2 + 1, total - 2, total - 1].map(|k| schedule.offset(k).unwrap()).into();
            assert!(sample.is_sorted() && sample[5] <= month, "{sample:?}");
        }
    }
    let absurd = curve(&[(f64::MAX, f64::MAX, Duration::MAX), (f64::INFINITY, 0.0, Duration::MAX)]);
    for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
        let schedule = Schedule::new(&absurd, arrivals, 1, 0);
        assert_eq!(schedule.total(), u64::MAX);
        assert!(schedule.offset(u64::MAX - 1).is_some());
    }
    assert_eq!(Attendance::new(&absurd).users(), u32::MAX);
    assert_eq!(Attendance::new(&absurd).intervals(5).len(), 1);
}

#[test]
fn users_of_a_constant_load_stay_all_along() {
    let attendance = Attendance::new(&Curve::constant(10.0, seconds(20)));
    assert_eq!(attendance.users(), 10);
    for user in 0..10 {
        assert_eq!(attendance.intervals(user), [(Duration::ZERO, seconds(20))]);
    }
    assert_eq!(attendance.intervals(10), []);
}

#[test]
fn users_of_a_ramp_join_and_leave_one_by_one() {
    let up = Attendance::new(&curve(&[(0.0, 50.0, seconds(50))]));
    assert_eq!(up.users(), 50);
    for user in 0..50 {
        assert_eq!(up.intervals(user), [(seconds(u64::from(user)), seconds(50))]);
    }
    let twice = Attendance::new(&curve(&[
        (0.0, 4.0, seconds(4)),
        (4.0, 4.0, seconds(6)),
        (4.0, 0.0, seconds(4)),
        (0.0, 4.0, seconds(4)),
    ]));
    assert_eq!(twice.intervals(0), [(seconds(0), seconds(18))]);
    assert_eq!(twice.intervals(3), [(seconds(3), seconds(11)), (seconds(17), seconds(18))]);
}

proptest! {
    #[test]
    fn operations_are_due_where_the_integral_passes_their_number(rate in any_curve(500.0)) {
        let schedule = uniform(&rate);
        let length = rate.length().as_secs_f64();
        let whole = integral(&rate, length);
        let noise = 1e-8;
        prop_assert!((whole - noise..=whole + 1.0 + noise).contains(&(schedule.total() as f64)), "{} of {}", schedule.total(), whole);
        for k in 0..schedule.total() {
            let at = schedule.offset(k).unwrap().as_secs_f64();
            let (before, behind) = (integral(&rate, at - 1e-6), integral(&rate, at + 1e-6));
            prop_assert!(before <= k as f64 + noise && k as f64 <= behind + noise, "{} at {}: {} to {}", k, at, before, behind);
        }
    }

    #[test]
    fn every_second_of_a_constant_rate_has_its_count_to_within_one(rate in 0.1_f64..2000.0, length in 1_u64..20) {
        let offsets = offsets(&uniform(&Curve::constant(rate, seconds(length))));
        for second in 0..length {
            let count = offsets.iter().filter(|offset| offset.as_secs() == second).count() as f64;
            prop_assert!((count - rate).abs() <= 1.0, "{} in second {}", count, second);
        }
    }

    #[test]
    fn operations_are_due_in_order_and_within_the_phase(rate in any_curve(30.0), arrivals in any_arrivals(), seed in any::<u64>()) {
        let offsets = offsets(&Schedule::new(&rate, arrivals, seed, 3));
        prop_assert!(offsets.is_sorted());
        prop_assert!(offsets.last().is_none_or(|last| *last <= rate.length()));
    }

    #[test]
    fn shares_part_every_schedule(
        rate in any_curve(10.0), arrivals in any_arrivals(), agents in 1_u32..=16, workers in 1_u32..=3,
    ) {
        let schedule = Schedule::new(&rate, arrivals, 1, 0);
        let mut parts = Vec::new();
        for agent in 0..agents {
            for worker in 0..workers {
                let share = Share::nth_of(agent, agents).split(worker, workers);
                parts.extend((0..share.count_below(schedule.total())).map(|i| schedule.offset(share.nth(i)).unwrap()));
            }
        }
        parts.sort();
        prop_assert_eq!(parts, offsets(&schedule));
    }

    #[test]
    fn users_are_at_work_while_the_curve_is_above_their_number(users in any_curve(30.0)) {
        let attendance = Attendance::new(&users);
        let mut worked = 0.0;
        for user in 0..attendance.users() {
            let intervals = attendance.intervals(user);
            prop_assert!(intervals.iter().all(|(from, to)| from < to && *to <= users.length()));
            prop_assert!(intervals.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for (from, to) in intervals {
                worked += (to - from).as_secs_f64();
                let middle = users.at(from + (to - from) / 2);
                prop_assert!(middle >= f64::from(user) - 1e-6, "user {} at a curve of {}", user, middle);
            }
        }
        prop_assert_eq!(attendance.intervals(attendance.users()), []);
        // Whole users: at any time less than one above the curve.
        let (length, due) = (users.length().as_secs_f64(), integral(&users, users.length().as_secs_f64()));
        prop_assert!((due - 1e-6..=due + length + 1e-6).contains(&worked), "{} for {}", worked, due);
    }
}
