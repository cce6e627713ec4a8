//! Finds, in Rust source, the texts that people read: string literals that are words, not names. Works on
//! tokens, with no crate's help.

/// A text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text {
    /// As the code has it, `{…}` where a value goes.
    pub english: String,
    /// The line it begins on, from 1.
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

/// Tokens with their lines; comments and the unit tests at the end are left out.
fn tokens(source: &str) -> Vec<(Token, usize)> {
    let source = source
        .find("\n#[cfg(test)]\nmod ")
        .map_or(source, |at| &source[..at]);
    let chars: Vec<char> = source.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        match c {
            '\n' => {
                line += 1;
                at += 1;
            }
            '/' if next == Some('/') => {
                while chars.get(at).is_some_and(|c| *c != '\n') {
                    at += 1;
                }
            }
            '/' if next == Some('*') => {
                let mut depth = 0;
                loop {
                    match (chars.get(at), chars.get(at + 1)) {
                        (Some('/'), Some('*')) => (depth, at) = (depth + 1, at + 2),
                        (Some('*'), Some('/')) => (depth, at) = (depth - 1, at + 2),
                        (Some(c), _) => {
                            line += usize::from(*c == '\n');
                            at += 1;
                        }
                        (None, _) => break,
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            '"' => {
                let (text, end, lines) = string(&chars, at + 1);
                found.push((Token::Text(text), line));
                (at, line) = (end, line + lines);
            }
            'r' if matches!(next, Some('"' | '#')) && raw_start(&chars, at).is_some() => {
                let (hashes, begin) = raw_start(&chars, at).unwrap_or_default();
                let mut end = begin;
                while end < chars.len()
                    && !(chars[end] == '"'
                        && chars[end + 1..]
                            .iter()
                            .take(hashes)
                            .filter(|c| **c == '#')
                            .count()
                            == hashes)
                {
                    line += usize::from(chars[end] == '\n');
                    end += 1;
                }
                found.push((
                    Token::Text(chars[begin..end.min(chars.len())].iter().collect()),
                    line,
                ));
                at = end + 1 + hashes;
            }
            // A character, or a lifetime.
            '\'' => {
                at += match (next, chars.get(at + 2)) {
                    (Some('\\'), _) => {
                        let close = chars[at + 3..].iter().position(|c| *c == '\'');
                        close.map_or(1, |close| close + 4)
                    }
                    (_, Some('\'')) => 3,
                    _ => 1,
                };
            }
            _ if is_word(c) => {
                let begin = at;
                while chars.get(at).is_some_and(|c| is_word(*c)) {
                    at += 1;
                }
                found.push((Token::Word(chars[begin..at].iter().collect()), line));
            }
            _ => {
                if !c.is_whitespace() {
                    found.push((Token::Mark(c), line));
                }
                at += 1;
            }
        }
    }
    found
}

/// Where a raw string's text begins, and how many `#` it has; `None` for a word that begins with r.
fn raw_start(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let before = at.checked_sub(1).and_then(|at| chars.get(at));
    if before.is_some_and(|c| c.is_alphanumeric() || *c == '_') {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some((hashes, at + 2 + hashes))
}

/// A string literal's text, where it ends, and how many lines it goes over.
fn string(chars: &[char], mut at: usize) -> (String, usize, usize) {
    let (mut text, mut lines) = (String::new(), 0);
    while let Some(&c) = chars.get(at) {
        at += 1;
        match c {
            '"' => break,
            '\\' => {
                let escaped = chars.get(at).copied().unwrap_or('\\');
                at += 1;
                match escaped {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'u' => {
                        let end = chars[at..]
                            .iter()
                            .position(|c| *c == '}')
                            .map_or(at, |end| at + end);
                        let code: String = chars[(at + 1).min(end)..end].iter().collect();
                        text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                        at = end + 1;
                    }
                    // The text goes on in the next line.
                    '\n' => {
                        lines += 1;
                        while chars.get(at).is_some_and(|c| c.is_whitespace()) {
                            lines += usize::from(chars[at] == '\n');
                            at += 1;
                        }
                    }
                    other => text.push(other),
                }
            }
            _ => {
                lines += usize::from(c == '\n');
                text.push(c);
            }
        }
    }
    (text, at, lines)
}

/// Attributes of elements, and calls, whose text is for the machine.
const MACHINE: [&str; 46] = [
    "class",
    "id",
    "href",
    "src",
    "name",
    "value",
    "type",
    "kind",
    "rel",
    "method",
    "action",
    "for",
    "role",
    "d",
    "fill",
    "stroke",
    "viewBox",
    "points",
    "autocomplete",
    "autocapitalize",
    "form",
    "formaction",
    "path",
    "endpoint",
    "expect",
    "get_attribute",
    "set_attribute",
    "has_attribute",
    "query_selector",
    "matches",
    "query_selector_all",
    "closest",
    "field_error",
    "form_error",
    "strip_prefix",
    "strip_suffix",
    "starts_with",
    "ends_with",
    "contains",
    "split",
    "split_once",
    "join",
    "get_item",
    "set_item",
    "cfg",
    "reason",
];

/// Macros whose text is for logs and programmers.
const LOGS: [&str; 14] = [
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "panic",
    "unreachable",
    "assert",
    "assert_eq",
    "debug_assert",
    "concat",
    "env",
    "include_str",
    "path",
];

/// Whether it reads like English: several words, or one that begins like a sentence.
fn reads(text: &str) -> bool {
    // What stands in braces is a value's place; one word beside it makes a text.
    let has_place = text.contains('{');
    let text: &str = &text
        .split('{')
        .enumerate()
        .map(|(at, part)| match part.split_once('}') {
            Some((_, after)) if at > 0 => after,
            _ => part,
        })
        .collect::<String>();
    // Names of styles: each with a hyphen, or the second made from the first.
    let mut parts = text.split(' ').filter(|part| !part.is_empty());
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_lowercase() || c == '-' || c == ' ');
    let has_hyphens = parts.clone().all(|part| part.contains('-'));
    let is_made = match (parts.next(), parts.next()) {
        (Some(one), Some(two)) => two
            .strip_prefix(one)
            .is_some_and(|rest| rest.starts_with('-')),
        _ => false,
    };
    if is_plain && (has_hyphens || is_made) {
        return false;
    }
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace())
        .filter(|word| {
            word.chars().filter(|c| c.is_alphabetic()).count() >= 2
                && !word.contains(['/', '=', '_', '<', '#'])
        })
        .collect();
    let first = text.trim_start().chars().next();
    let is_sentence = first.is_some_and(char::is_uppercase)
        && text
            .chars()
            .nth(1)
            .is_some_and(|c| c.is_lowercase() || c == ' ');
    let is_code = text.contains(";base64")
        || text.contains("{{")
        || text.contains("::")
        || text.starts_with("//");
    !is_code
        && (words.len() >= 2
            || (words.len() == 1 && (is_sentence || has_place && words[0].len() >= 3)))
}

/// Whether it is a whole sentence, as answers of the server to people are.
pub fn is_sentence(text: &str) -> bool {
    text.starts_with(char::is_uppercase) && text.split(' ').count() >= 3
}

/// The texts of a source file, in their order.
pub fn texts(source: &str) -> Vec<Text> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    // For each open bracket the word that stands before it: what is called, or nothing.
    let mut calls: Vec<String> = Vec::new();
    for (at, (token, line)) in tokens.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map(|at| &tokens[at].0);
        match token {
            Token::Mark('(' | '[' | '{') => calls.push(match (before(1), before(2)) {
                // An attribute's value that is put together.
                (Some(Token::Mark('!')), Some(Token::Word(_)))
                    if matches!(
                        (before(3), before(4)),
                        (Some(Token::Mark('=')), Some(Token::Word(name))) if MACHINE.contains(&name.as_str())
                    ) =>
                {
                    "class".into()
                }
                (Some(Token::Word(word)), _) => word.clone(),
                (Some(Token::Mark('!')), Some(Token::Word(word))) => format!("{word}!"),
                (Some(Token::Mark('#')), _) => "#".into(),
                _ => String::new(),
            }),
            Token::Mark(')' | ']' | '}') => {
                calls.pop();
            }
            Token::Text(text) if reads(text) => {
                let call = calls.last().map_or("", String::as_str);
                let named = match (before(1), before(2)) {
                    (Some(Token::Mark('=')), Some(Token::Word(word))) => word.as_str(),
                    _ => "",
                };
                let is_compared = matches!(
                    (before(1), before(2)),
                    (Some(Token::Mark('=')), Some(Token::Mark('=' | '!')))
                );
                let is_pattern = matches!(
                    (tokens.get(at + 1), tokens.get(at + 2)),
                    (Some((Token::Mark('='), _)), Some((Token::Mark('>'), _)))
                );
                let is_attribute = calls.iter().any(|call| call == "#") && call != "error";
                let is_log = LOGS.iter().any(|log| call.strip_suffix('!') == Some(log));
                let is_machine = MACHINE.contains(&call) || MACHINE.contains(&named);
                if !(is_compared || is_pattern || is_attribute || is_log || is_machine) {
                    found.push(Text {
                        english: text.clone(),
                        line: *line,
                    });
                }
            }
            _ => {}
        }
    }
    found
}
