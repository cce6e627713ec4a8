//! A point in time: UTC as rendered by the server, the reader's own clock once hydrated.

use leptos::prelude::*;

/// `2026-11-24 16:34 UTC`, from Unix milliseconds.
pub fn utc_text(unix_ms: i64) -> String {
    let (date, hour, minute, _) = civil(unix_ms);
    format!("{date} {hour:02}:{minute:02} UTC")
}

/// `2026-11-24`, of Unix milliseconds, in UTC.
pub fn date_text(unix_ms: i64) -> String {
    civil(unix_ms).0
}

/// `2026-11-24T16:34:09Z`, for `<time datetime>`.
pub(super) fn iso_text(unix_ms: i64) -> String {
    let (date, hour, minute, second) = civil(unix_ms);
    format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The proleptic Gregorian date and the time of day of a Unix time.
///
/// Counted in eras of 400 years (146 097 days) from 1 March of year 0, so that the leap day is
/// the last day of a year and month lengths follow (153 m + 2) / 5.
fn civil(unix_ms: i64) -> (String, i64, i64, i64) {
    let seconds = unix_ms.div_euclid(1000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (
        format!("{year:04}-{month:02}-{day:02}"),
        of_day / 3600,
        of_day % 3600 / 60,
        of_day % 60,
    )
}

#[cfg(feature = "hydrate")]
pub(super) fn local_text(unix_ms: i64) -> Option<String> {
    use wasm_bindgen::JsValue;
    let options = js_sys::Object::new();
    for (key, value) in [("dateStyle", "medium"), ("timeStyle", "short")] {
        js_sys::Reflect::set(&options, &JsValue::from_str(key), &JsValue::from_str(value)).ok()?;
    }
    let date = js_sys::Date::new(&JsValue::from_f64(unix_ms as f64));
    date.to_locale_string("default", &options).as_string()
}

#[cfg(not(feature = "hydrate"))]
pub(super) fn local_text(_: i64) -> Option<String> {
    None
}

/// A `<time>` element for Unix milliseconds.
#[component]
pub fn Moment(
    /// Unix milliseconds.
    at: i64,
) -> impl IntoView {
    let text = RwSignal::new(utc_text(at));
    // Server and browser must render the same text first; the reader's time zone is known here only.
    Effect::new(move |_| {
        if let Some(local) = local_text(at) {
            text.set(local);
        }
    });
    view! { <time datetime=iso_text(at)>{move || text.get()}</time> }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_across_leap_days_and_centuries() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59Z"),
            (1_795_538_049_000, "2026-11-24T16:34:09Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(iso_text(ms), text);
        }
    }
}
