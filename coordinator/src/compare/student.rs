//! Quantiles of Student's t distribution, for intervals from few runs or few blocks.

/// The value that |t| exceeds with this probability (0 to 1, both ends together), for `freedom` degrees of freedom (any
/// number above 0). It is infinite where the probability is 0.
///
/// P(|t| > x) is I(ν/(ν+x²); ν/2, 1/2), the regularised incomplete beta function (Abramowitz & Stegun, Handbook of
/// Mathematical Functions, 26.7.1 and 26.5.27); the quantile is found by halving.
pub(super) fn two_sided(probability: f64, freedom: f64) -> f64 {
    let exceeds = |x: f64| incomplete_beta(freedom / (freedom + x * x), freedom / 2.0, 0.5);
    let (mut low, mut high) = (0.0, 1.0);
    while exceeds(high) > probability {
        (low, high) = (high, high * 2.0);
        if high > 1e12 {
            return f64::INFINITY;
        }
    }
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if exceeds(middle) > probability { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// I(x; a, b) by its continued fraction (26.5.8 there), evaluated by Lentz's method as modified by Thompson and Barnett
/// (Press et al., Numerical Recipes, 3rd ed., 6.4).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges fast on this side only; the other one follows by symmetry.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let kept = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / kept(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for step in 1..=300 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = result;
        for term in [even, odd] {
            d = 1.0 / kept(1.0 + term * d);
            c = kept(1.0 + term / c);
            result *= c * d;
        }
        if (result - before).abs() <= before.abs() * 1e-15 {
            break;
        }
    }
    result
}

/// ln Γ(x) for x > 0 by Lanczos's approximation (g = 7, n = 9; coefficients of Paul Godfrey, relative error 1e-15).
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let terms = COEFFICIENTS[1..].iter().zip(1..).map(|(term, index)| term / (x + f64::from(index)));
    let sum = COEFFICIENTS[0] + terms.sum::<f64>();
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first ones are in every table; the others are from a numerical integration of the density.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        let cases = [
            (0.05, 1.0, 12.706_204_736),
            (0.05, 2.0, 4.302_652_730),
            (0.05, 5.67, 2.481_851_259),
            (0.05, 12.0, 2.178_812_830),
            (0.001, 3.0, 12.923_978_637),
            (0.002_777_777_8, 12.0, 3.748_654_100),
            (0.000_1, 30.0, 4.482_417_175),
            (0.05, 1e6, 1.959_966),
            (1.0, 7.0, 0.0),
        ];
        for (probability, freedom, quantile) in cases {
            let found = two_sided(probability, freedom);
            assert!((found - quantile).abs() < 1e-5 * quantile.max(1.0), "{probability} {freedom}: {found}");
        }
        assert!(two_sided(0.0, 5.0).is_infinite());
    }
}
