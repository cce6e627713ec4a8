//! Numbers and addresses in words, the same on the server and in the browser.

/// A duration for people: "40 ms", "0.4 s", "12 s", "3 min 20 s", "2 h 5 min".
pub fn seconds_text(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".into();
    }
    if seconds == 0.0 {
        return "0 s".into();
    }
    if seconds < 0.0995 {
        return format!("{:.0} ms", (seconds * 1000.0).max(1.0));
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    // Rounded first, so that 59.7 s is one minute and not "60 s".
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => match whole % 60 {
            0 => format!("{} min", whole / 60),
            rest => format!("{} min {rest} s", whole / 60),
        },
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A size for people, in powers of 1024: "812 B", "1.4 MiB".
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A number without a needless fraction: 7.5 → "7.5", 5.0 → "5", 1.2e-6 → "1.2e-6".
pub fn number_text(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        format!("{value:.1e}")
    } else {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// Escapes a value for a query string.
pub fn percent_encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The page to go to after signing in: a path on this server, never another site.
pub fn safe_path(next: &str) -> String {
    let is_path = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && !next.chars().any(char::is_control);
    // Back to the sign-in page would be a loop.
    if is_path
        && !["/sign-in", "/setup", "/sign-up", "/join/", "/reset/"]
            .iter()
            .any(|door| next.starts_with(door))
    {
        next.to_owned()
    } else {
        "/".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_a_person_says_them() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (1e-5, "1 ms"),
            (0.0371, "37 ms"),
            (0.14, "0.1 s"),
            (3.96, "4.0 s"),
            (9.96, "10 s"),
            (59.7, "1 min"),
            (200.4, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(seconds_text(seconds), text);
        }
    }

    #[test]
    fn only_paths_of_this_server_are_followed() {
        assert_eq!(safe_path("/gallery?after=1"), "/gallery?after=1");
        for bad in [
            "",
            "gallery",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nSet-Cookie: x",
            "/sign-in?next=/sign-in",
        ] {
            assert_eq!(safe_path(bad), "/", "{bad:?}");
        }
    }

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(percent_encode("a b&c=ä"), "a%20b%26c%3D%C3%A4");
    }

    #[test]
    fn numbers_and_sizes() {
        assert_eq!(number_text(5.0), "5");
        assert_eq!(number_text(7.5), "7.5");
        assert_eq!(number_text(1.24e-6), "1.2e-6");
        assert_eq!(number_text(0.0), "0");
        assert_eq!(bytes_text(812), "812 B");
        assert_eq!(bytes_text(1_468_006), "1.4 MiB");
    }
}
