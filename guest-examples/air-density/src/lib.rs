//! How dense the air is, from temperature, humidity and pressure: three numbers in, one out. The benchmark's
//! operator.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Weather {
    celsius: f64,
    humidity_percent: f64,
    hectopascals: f64,
}

#[derive(Record)]
struct Air {
    kilograms_per_cubic_metre: f64,
}

/// Of dry air and of vapour, in joules for a kilogram and a kelvin.
const GAS_CONSTANT_DRY: f64 = 287.05;
const GAS_CONSTANT_VAPOUR: f64 = 461.50;

/// Dry air and vapour, each as an ideal gas under its share of the pressure.
#[operator(extend)]
fn air_density(weather: Weather) -> Air {
    let kelvin = weather.celsius + 273.15;
    let vapour_hectopascals = weather.humidity_percent / 100.0 * saturation_hectopascals(weather.celsius);
    let dry_hectopascals = weather.hectopascals - vapour_hectopascals;
    let kilograms_per_cubic_metre = 100.0 * dry_hectopascals / (GAS_CONSTANT_DRY * kelvin)
        + 100.0 * vapour_hectopascals / (GAS_CONSTANT_VAPOUR * kelvin);
    Air { kilograms_per_cubic_metre }
}

/// The pressure of saturated vapour over water: the polynomial of P. R. Lowe (1977), for -50 to 50 degrees.
fn saturation_hectopascals(celsius: f64) -> f64 {
    const COEFFICIENTS: [f64; 7] = [
        6.136820929e-11,
        2.034080948e-8,
        3.031240396e-6,
        2.650648471e-4,
        1.428945805e-2,
        4.436518521e-1,
        6.107799961,
    ];
    COEFFICIENTS.into_iter().fold(0.0, |sum, coefficient| sum * celsius + coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cold_dry_air_is_dense() {
        let grams = |celsius, humidity_percent, hectopascals| {
            let air = air_density(Weather { celsius, humidity_percent, hectopascals });
            (1000.0 * air.kilograms_per_cubic_metre).round()
        };
        assert_eq!(grams(20.0, 50.0, 1013.25), 1199.0);
        assert_eq!(grams(-10.0, 50.0, 1013.25), 1341.0);
        assert_eq!(grams(35.0, 90.0, 990.0), 1098.0);
    }
}
