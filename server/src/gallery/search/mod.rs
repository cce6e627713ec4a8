//! What a query of the gallery asks for: read once, at the edge, into something that can be run.

pub(super) mod store; // pages and counts

use atelier_app::error::AppError;
use atelier_app::gallery::ImageQuery;

/// Longest text that is searched for, in characters.
const LONGEST_TEXT: usize = 1000;
/// Most words of it.
const MOST_WORDS: usize = 32;

/// A query that can be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub words: Option<Words>,
    pub model: Option<String>,
    pub size: Option<(u32, u32)>,
    pub scheduler: Option<String>,
    pub device: Option<String>,
    /// Year and month in one number, e.g. 202611.
    pub month: Option<u32>,
    pub seed: Option<u64>,
    pub favourite: bool,
    /// So many stars and more.
    pub rating: u8,
    pub collection: Option<String>,
}

/// What to find in prompts, and what must not be there; each as FTS5 reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    wanted: Vec<String>,
    unwanted: Vec<String>,
}

impl Filter {
    /// # Errors
    /// [`AppError::Invalid`] naming the field that says nothing that images could have.
    pub fn parse(query: &ImageQuery) -> Result<Self, AppError> {
        let text = |value: &str| Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        Ok(Self {
            words: text(&query.q).as_deref().map(Words::parse).transpose()?,
            model: text(&query.model),
            size: text(&query.size).as_deref().map(size).transpose()?,
            scheduler: text(&query.scheduler),
            device: text(&query.device),
            month: text(&query.month).as_deref().map(month).transpose()?,
            seed: text(&query.seed)
                .map(|seed| {
                    seed.parse().map_err(|_| {
                        AppError::invalid(
                            "seed",
                            "A seed is a whole number from 0 to 18446744073709551615.",
                        )
                    })
                })
                .transpose()?,
            favourite: !matches!(query.favourite.trim(), "" | "0" | "false"),
            rating: match query.rating.trim() {
                "" => 0,
                rating => rating
                    .parse()
                    .ok()
                    .filter(|rating| *rating <= 5)
                    .ok_or_else(|| AppError::invalid("rating", "Give 1 to 5 stars."))?,
            },
            collection: text(&query.collection),
        })
    }

    /// Whether anything is asked that only some looks have.
    pub fn names_a_look(&self) -> bool {
        self.model.is_some()
            || self.size.is_some()
            || self.scheduler.is_some()
            || self.device.is_some()
    }
}

/// `1024x768`, also with ×.
fn size(text: &str) -> Result<(u32, u32), AppError> {
    text.split_once(['x', '×', 'X'])
        .and_then(|(width, height)| Some((width.trim().parse().ok()?, height.trim().parse().ok()?)))
        .ok_or_else(|| AppError::invalid("size", "Give a size as 1024x768."))
}

/// `2026-11`
fn month(text: &str) -> Result<u32, AppError> {
    text.split_once('-')
        .and_then(|(year, month)| Some((year.parse::<u32>().ok()?, month.parse::<u32>().ok()?)))
        .filter(|(year, month)| (1970..=9999).contains(year) && (1..=12).contains(month))
        .map(|(year, month)| year * 100 + month)
        .ok_or_else(|| AppError::invalid("month", "Give a month as 2026-11."))
}

impl Words {
    /// Every word must be there, also as the beginning of a longer one; words in double quotes
    /// stand together as written; a minus sign before either leaves images out.
    fn parse(text: &str) -> Result<Self, AppError> {
        if text.chars().count() > LONGEST_TEXT {
            return Err(AppError::invalid(
                "q",
                format!("Search for at most {LONGEST_TEXT} characters."),
            ));
        }
        let mut words = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (unwanted, term) = match rest.strip_prefix('-') {
                Some(term) => (true, term),
                None => (false, rest),
            };
            let (term, is_phrase, after) = match term.strip_prefix('"') {
                // A quotation that is still being typed goes to the end.
                Some(quoted) => {
                    let (phrase, after) = quoted.split_once('"').unwrap_or((quoted, ""));
                    (phrase, true, after)
                }
                None => {
                    let end = term.find(char::is_whitespace).unwrap_or(term.len());
                    (&term[..end], false, &term[end..])
                }
            };
            // A term without a letter or digit is no word to the index either.
            if term.chars().any(char::is_alphanumeric) {
                let list = if unwanted {
                    &mut words.unwanted
                } else {
                    &mut words.wanted
                };
                let plain: String = term
                    .chars()
                    .map(|c| if c == '"' || c.is_control() { ' ' } else { c })
                    .collect();
                list.push(format!("\"{plain}\"{}", if is_phrase { "" } else { "*" }));
            }
            rest = after.trim_start();
        }
        if words.wanted.len() + words.unwanted.len() > MOST_WORDS {
            return Err(AppError::invalid(
                "q",
                format!("Search for at most {MOST_WORDS} words."),
            ));
        }
        Ok(words)
    }

    /// The whole expression, for images of one owner. `None`: nothing was said that could be found.
    pub fn expression(&self, owner: i64) -> Option<String> {
        if self.wanted.is_empty() && self.unwanted.is_empty() {
            return None;
        }
        let mut all = format!("owner : \"u{owner}\"");
        if !self.wanted.is_empty() {
            let wanted = self.wanted.join(" AND ");
            all = format!("({all}) AND ({{prompt negative_prompt}} : ({wanted}))");
        }
        if !self.unwanted.is_empty() {
            // What somebody keeps out of an image is no reason to leave the image out.
            let unwanted = self.unwanted.join(" OR ");
            all = format!("({all}) NOT ({{prompt}} : ({unwanted}))");
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> Option<String> {
        Words::parse(text).expect("short").expression(7)
    }

    #[test]
    fn words_phrases_and_what_is_left_out() {
        assert_eq!(
            expression("red \"blue car\" -dog").as_deref(),
            Some(
                "((owner : \"u7\") AND ({prompt negative_prompt} : (\"red\"* AND \"blue car\"))) NOT ({prompt} : (\"dog\"*))"
            )
        );
        assert_eq!(
            expression("-a -\"b c\"").as_deref(),
            Some("(owner : \"u7\") NOT ({prompt} : (\"a\"* OR \"b c\"))")
        );
        // Operators of the index are words like others here.
        assert_eq!(
            expression("a OR NEAR(b) col:*").as_deref(),
            Some(
                "(owner : \"u7\") AND ({prompt negative_prompt} : (\"a\"* AND \"OR\"* AND \"NEAR(b)\"* AND \"col:*\"*))"
            )
        );
        for nothing in ["", "  ", "!!! ***", "\"", "-", "--", "\"\"\"\""] {
            assert_eq!(expression(nothing), None, "{nothing:?}");
        }
        assert!(Words::parse(&"x".repeat(1001)).is_err());
        assert!(Words::parse(&"x ".repeat(33)).is_err());
    }

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        let ask = |name: &str, value: &str| {
            Filter::parse(&ImageQuery::from_lookup(|field| {
                (field == name).then(|| value.to_owned())
            }))
        };
        for (field, value) in [
            ("size", "big"),
            ("size", "1024"),
            ("size", "-1x5"),
            ("month", "2026"),
            ("month", "2026-13"),
            ("month", "99999-01"),
            ("seed", "-1"),
            ("seed", "18446744073709551616"),
            ("rating", "6"),
            ("rating", "many"),
        ] {
            let error = ask(field, value).expect_err(value);
            assert_eq!(error.field(), Some(field), "{value}");
        }
        assert_eq!(
            ask("size", "1024×768").expect("a size").size,
            Some((1024, 768))
        );
        assert_eq!(ask("month", "2026-11").expect("one").month, Some(202_611));
        assert!(ask("favourite", "1").expect("yes").favourite);
        assert!(!ask("favourite", "0").expect("no").favourite);
        assert_eq!(Filter::parse(&ImageQuery::default()), Ok(Filter::default()));
    }
}
