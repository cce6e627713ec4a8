//! The parser for weights, escapes and `BREAK`.

use crate::EngineError;

/// Largest weight, in either direction, that is accepted: one that is written, and the product of
/// those around a word.
pub const MAX_WEIGHT: f64 = 10.0;

/// What one pair of brackets multiplies by.
const STEP: f64 = 1.1;

/// The word that starts a new chunk.
const BREAK: &str = "BREAK";

/// A piece of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text, and how strongly it counts.
    Text {
        /// The text, without brackets and escapes.
        text: String,
        /// 1 is as the model was trained.
        weight: f64,
    },
    /// What follows starts a new chunk.
    Break,
}

/// A prompt, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The pieces in order; neighbours of equal weight are joined, as the web UI joins them.
    pub parts: Vec<Part>,
    /// Whether the prompt holds a weight, an escape or `BREAK`. If not, its one part is the text
    /// as it was.
    pub uses_syntax: bool,
}

/// A part in the making.
enum Piece {
    Text {
        text: String,
        weight: f64,
    },
    /// An opening bracket: text until it is closed.
    Open {
        bracket: char,
        weight: f64,
    },
    Break,
    /// An opening bracket that was closed.
    Closed,
}

/// The pieces so far, and which of them are open brackets.
struct Parser<'a> {
    field: &'static str,
    text: &'a str,
    pieces: Vec<Piece>,
    round: Vec<usize>,
    square: Vec<usize>,
    uses_syntax: bool,
}

/// Parses the prompt called `field`.
///
/// # Errors
/// [`EngineError::InvalidRequest`] for a weight that is no number, or beyond [`MAX_WEIGHT`].
pub fn parse(field: &'static str, text: &str) -> Result<Parsed, EngineError> {
    let mut parser = Parser {
        field,
        text,
        pieces: Vec::new(),
        round: Vec::new(),
        square: Vec::new(),
        uses_syntax: false,
    };
    parser.read()?;
    parser.finish()
}

impl Parser<'_> {
    fn read(&mut self) -> Result<(), EngineError> {
        let mut at = 0;
        while let Some(first) = self.text[at..].chars().next() {
            let rest = &self.text[at + first.len_utf8()..];
            let mut taken = first.len_utf8();
            match first {
                '\\' => match rest.chars().next() {
                    Some(escaped @ ('(' | ')' | '[' | ']' | '\\')) => {
                        self.uses_syntax = true;
                        self.push(escaped.to_string());
                        taken += escaped.len_utf8();
                    }
                    _ => self.push("\\".to_string()),
                },
                '(' | '[' => {
                    let open = if first == '(' {
                        &mut self.round
                    } else {
                        &mut self.square
                    };
                    open.push(self.pieces.len());
                    self.pieces.push(Piece::Open {
                        bracket: first,
                        weight: 1.0,
                    });
                }
                ':' => match self.weight_before_bracket(rest)? {
                    Some((weight, length)) => {
                        let open = self.round.pop();
                        self.close(open, weight);
                        taken += length;
                    }
                    None => self.push(":".to_string()),
                },
                ')' if !self.round.is_empty() => {
                    let open = self.round.pop();
                    self.close(open, STEP);
                }
                ']' if !self.square.is_empty() => {
                    let open = self.square.pop();
                    self.close(open, 1.0 / STEP);
                }
                ')' | ']' => self.push(first.to_string()),
                _ => {
                    let run = self.text[at..]
                        .find(['\\', '(', ')', '[', ']', ':'])
                        .map_or(self.text.len(), |length| at + length);
                    self.push_words(at, run);
                    taken = run - at;
                }
            }
            at += taken;
        }
        Ok(())
    }

    /// The weight in `1.3)`, and the length of that; `rest` follows a colon. Nothing if no bracket
    /// waits for a weight, or if what stands there is text.
    fn weight_before_bracket(&self, rest: &str) -> Result<Option<(f64, usize)>, EngineError> {
        let end = rest.find(['\\', '(', ')', '[', ']', ':']);
        let Some(end) = end.filter(|&end| rest[end..].starts_with(')')) else {
            return Ok(None);
        };
        let number = rest[..end].trim();
        let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
        let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        let value = number.parse::<f64>();
        // Anything else that reads as a number (`nan`, `inf`, `1e3`) was hardly meant as text.
        if self.round.is_empty() || !(plain || value.is_ok()) {
            return Ok(None);
        }
        match value {
            Ok(weight) if plain && weight.abs() <= MAX_WEIGHT => Ok(Some((weight, end + 1))),
            _ => Err(EngineError::invalid(
                self.field,
                format!(
                    "has the weight `{number}`; give a number from -{MAX_WEIGHT} to {MAX_WEIGHT} such as (word:1.3), or write \\( and \\) for brackets that are text"
                ),
            )),
        }
    }

    fn push(&mut self, text: String) {
        self.pieces.push(Piece::Text { text, weight: 1.0 });
    }

    /// Pushes `text[start..end]`, broken where the word BREAK stands in it.
    fn push_words(&mut self, start: usize, end: usize) {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let run = &self.text[start..end];
        let mut from = 0;
        let mut search = 0;
        while let Some(found) = run[search..].find(BREAK) {
            let (begin, after) = (search + found, search + found + BREAK.len());
            search = after;
            let joined = run[..begin].chars().next_back().is_some_and(is_word)
                || run[after..].chars().next().is_some_and(is_word);
            if !joined {
                self.uses_syntax = true;
                self.push(run[from..begin].trim_end().to_string());
                self.pieces.push(Piece::Break);
                from = after + (run[after..].len() - run[after..].trim_start().len());
                search = from;
            }
        }
        self.push(run[from..].to_string());
    }

    /// Closes the bracket at `open`: everything since is multiplied.
    fn close(&mut self, open: Option<usize>, factor: f64) {
        let Some(open) = open else { return };
        self.uses_syntax = true;
        self.pieces[open] = Piece::Closed;
        for piece in &mut self.pieces[open + 1..] {
            match piece {
                Piece::Text { weight, .. } | Piece::Open { weight, .. } => *weight *= factor,
                Piece::Break | Piece::Closed => {}
            }
        }
    }

    fn finish(self) -> Result<Parsed, EngineError> {
        let mut parts: Vec<Part> = Vec::new();
        for piece in self.pieces {
            let (text, weight) = match piece {
                Piece::Text { text, weight } => (text, weight),
                Piece::Open { bracket, weight } => (bracket.to_string(), weight),
                Piece::Closed => continue,
                Piece::Break => {
                    parts.push(Part::Break);
                    continue;
                }
            };
            if text.is_empty() {
                continue;
            }
            if weight.abs() > MAX_WEIGHT {
                let start: String = text.trim().chars().take(40).collect();
                return Err(EngineError::invalid(
                    self.field,
                    format!(
                        "weighs `{start}` {weight:.1} times; at most {MAX_WEIGHT} is accepted, so take some of the brackets around it away"
                    ),
                ));
            }
            match parts.last_mut() {
                Some(Part::Text {
                    text: before,
                    weight: same,
                }) if *same == weight => before.push_str(&text),
                _ => parts.push(Part::Text { text, weight }),
            }
        }
        Ok(Parsed {
            parts,
            uses_syntax: self.uses_syntax,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::TorchGenerator;

    fn text(text: &str, weight: f64) -> Part {
        Part::Text {
            text: text.into(),
            weight,
        }
    }

    fn parts(prompt: &str) -> Vec<Part> {
        parse("prompt", prompt).expect(prompt).parts
    }

    #[test]
    fn brackets_weigh() {
        for (prompt, expected) in [
            ("normal text", vec![text("normal text", 1.0)]),
            ("", vec![]),
            (
                "an (important) word",
                vec![text("an ", 1.0), text("important", 1.1), text(" word", 1.0)],
            ),
            ("((x))", vec![text("x", 1.1 * 1.1)]),
            ("(x:1.3)", vec![text("x", 1.3)]),
            ("(x: 1.3 )", vec![text("x", 1.3)]),
            ("(x:+.5)(y:-2.)", vec![text("x", 0.5), text("y", -2.0)]),
            ("(x:0)", vec![text("x", 0.0)]),
            ("[x]", vec![text("x", 1.0 / 1.1)]),
            ("[x:1.3]", vec![text("x:1.3", 1.0 / 1.1)]),
            ("((a:1.5) b)", vec![text("a", 1.5 * 1.1), text(" b", 1.1)]),
            ("(one)(two)", vec![text("onetwo", 1.1)]),
            ("a()b[]", vec![text("ab", 1.0)]),
            ("(a:b:1.5)", vec![text("a:b", 1.5)]),
            ("([a)]", vec![text("a", 1.1 * (1.0 / 1.1))]),
            ("(at noon:text)", vec![text("at noon:text", 1.1)]),
        ] {
            assert_eq!(parts(prompt), expected, "{prompt}");
        }
    }

    #[test]
    fn what_is_not_closed_is_text() {
        for prompt in [
            "(unbalanced",
            "a) b] c",
            ":( sad",
            "[",
            "x:1.3) y",
            "(a",
            "a\\b \\",
        ] {
            let parsed = parse("prompt", prompt).expect(prompt);
            assert_eq!(parsed.parts, vec![text(prompt, 1.0)]);
            assert!(!parsed.uses_syntax, "{prompt}");
        }
        assert_eq!(
            parts("(a (b:1.3) c"),
            vec![text("(a ", 1.0), text("b", 1.3), text(" c", 1.0)]
        );
        assert_eq!(parts("([a)"), vec![text("[a", 1.1)]);
    }

    #[test]
    fn escapes_are_text_and_syntax() {
        for (prompt, expected) in [
            (r"\(literal\]", "(literal]"),
            (r"a \\ b \[c\)", r"a \ b [c)"),
            (r"\\\(", r"\("),
        ] {
            let parsed = parse("prompt", prompt).expect(prompt);
            assert_eq!(parsed.parts, vec![text(expected, 1.0)]);
            assert!(parsed.uses_syntax);
        }
        assert_eq!(
            parts(r"(smile \(big\):1.2)"),
            vec![text("smile (big)", 1.2)]
        );
        assert_eq!(parts(r"\\(x)"), vec![text(r"\", 1.0), text("x", 1.1)]);
    }

    #[test]
    fn break_is_a_word_of_its_own() {
        let (a, b) = (text("a", 1.0), text("b", 1.0));
        assert_eq!(parts("a BREAK b"), vec![a.clone(), Part::Break, b.clone()]);
        assert_eq!(parts("a\nBREAK\n\nb"), vec![a.clone(), Part::Break, b]);
        assert_eq!(parts("BREAK BREAK"), vec![Part::Break, Part::Break]);
        assert_eq!(parts("a BREAK"), vec![a, Part::Break]);
        assert_eq!(
            parts("(a BREAK b:1.5)"),
            vec![text("a", 1.5), Part::Break, text("b", 1.5)]
        );
        for prompt in ["break", "BREAKFAST", "a_BREAK", "éBREAK", "9BREAK", "Break"] {
            assert_eq!(parts(prompt), vec![text(prompt, 1.0)], "{prompt}");
        }
        assert_eq!(parts("BREAK,x"), vec![Part::Break, text(",x", 1.0)]);
    }

    #[test]
    fn weights_that_cannot_be_are_refused() {
        for prompt in [
            "(a:nan)",
            "(a:inf)",
            "(a:-Infinity)",
            "(a:1e3)",
            "(a:1.2.3)",
            "(a:.)",
            "(a:11)",
            "(a:-10.1)",
            "(a: 99999999999999999999999 )",
            "((a:9):9)",
        ] {
            match parse("negative_prompt", prompt) {
                Err(EngineError::InvalidRequest { field, message }) => {
                    assert_eq!(field, "negative_prompt");
                    assert!(!message.contains('\n'), "{message}");
                }
                other => panic!("{prompt}: {other:?}"),
            }
        }
        let nested = format!("{}a{}", "(".repeat(30), ")".repeat(30));
        assert!(parse("prompt", &nested).is_err());
        parse("prompt", "(a:10) (b:-10)").expect("the limits themselves");
    }

    /// Random strings of the characters that matter: no panic, no lost text, all weights finite.
    #[test]
    fn random_strings_are_read() {
        const ALPHABET: [&str; 16] = [
            "(", ")", "[", "]", ":", "\\", "1", ".", "3", "-", " ", ",", "BREAK", "é", "猫", "a",
        ];
        let mut random = TorchGenerator::new(11);
        for _ in 0..4000 {
            let prompt: String = random
                .randn(24)
                .iter()
                .map(|value| ALPHABET[(value.abs() * 1e4) as usize % ALPHABET.len()])
                .collect();
            let Ok(parsed) = parse("prompt", &prompt) else {
                continue;
            };
            let mut words = String::new();
            for part in &parsed.parts {
                if let Part::Text { text, weight } = part {
                    assert!(weight.abs() <= MAX_WEIGHT && !text.is_empty(), "{prompt}");
                    words.push_str(text);
                }
            }
            let letters = |text: &str| -> String {
                let letters = text.chars().filter(|c| c.is_alphabetic());
                letters.collect()
            };
            let breaks = parsed.parts.iter().filter(|part| **part == Part::Break);
            let dropped = breaks.count() * BREAK.len();
            assert_eq!(
                letters(&prompt).chars().count(),
                letters(&words).chars().count() + dropped,
                "{prompt}"
            );
            if !parsed.uses_syntax {
                assert_eq!(words, prompt);
                assert!(parsed.parts.len() <= 1);
            }
        }
    }
}
