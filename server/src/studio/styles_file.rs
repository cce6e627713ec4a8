//! A1111's `styles.csv`: a header, then `name,prompt,negative_prompt` on each line, quoted as
//! RFC 4180 has it. Older files have `name,text`.

use atelier_app::studio::Style;

/// The styles of a file with the line that each begins on (from 1).
///
/// # Errors
/// What is wrong with the file, after "This file".
pub(super) fn read(text: &str) -> Result<Vec<(usize, Style)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut records = records(text)?.into_iter();
    let (_, header) = records.next().ok_or("is empty")?;
    let column = |names: &[&str]| {
        header
            .iter()
            .position(|cell| names.contains(&cell.trim().to_lowercase().as_str()))
    };
    let (Some(name), Some(prompt)) = (column(&["name"]), column(&["prompt", "text"])) else {
        return Err(
            "does not begin with the line name,prompt,negative_prompt, as files of styles do"
                .to_owned(),
        );
    };
    let negative = column(&["negative_prompt"]);
    let styles: Vec<(usize, Style)> = records
        .filter(|(_, cells)| cells.iter().any(|cell| !cell.trim().is_empty()))
        .map(|(line, cells)| {
            let cell =
                |at: Option<usize>| at.and_then(|at| cells.get(at)).cloned().unwrap_or_default();
            let style = Style {
                name: cell(Some(name)),
                prompt: cell(Some(prompt)),
                negative_prompt: cell(negative),
            };
            (line, style)
        })
        // Lines that only part A1111's list into sections say nothing.
        .filter(|(_, style)| {
            !(style.prompt.trim().is_empty() && style.negative_prompt.trim().is_empty())
        })
        .collect();
    if styles.is_empty() {
        return Err("holds no styles".to_owned());
    }
    Ok(styles)
}

/// Records with the line that each begins on.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut records = Vec::new();
    let mut cells: Vec<String> = Vec::new();
    let mut cell = String::new();
    let (mut quoted, mut line, mut began) = (false, 1, 1);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '\n' {
            line += 1;
        }
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.trim().is_empty() => {
                cell.clear();
                quoted = true;
            }
            _ if quoted => cell.push(letter),
            ',' => cells.push(std::mem::take(&mut cell)),
            '\r' if letters.peek() == Some(&'\n') => {}
            '\n' | '\r' => {
                cells.push(std::mem::take(&mut cell));
                records.push((began, std::mem::take(&mut cells)));
                began = line;
            }
            _ => cell.push(letter),
        }
    }
    if quoted {
        return Err(format!("opens a quote on line {began} and never closes it"));
    }
    if !cell.is_empty() || !cells.is_empty() {
        cells.push(cell);
        records.push((began, cells));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(name: &str, prompt: &str, negative_prompt: &str) -> Style {
        Style {
            name: name.into(),
            prompt: prompt.into(),
            negative_prompt: negative_prompt.into(),
        }
    }

    #[test]
    fn files_as_a1111_writes_them_are_read() {
        let text = "\u{feff}name,prompt,negative_prompt\r\n\
            Ink,\"ink of {prompt}, bold\",colour\r\n\
            --- mine ---,,\r\n\r\n\
            \"Two \"\"lines\"\"\",\"one\ntwo\",\r\nPlain,words";
        let read = read(text).expect("a file of styles");
        assert_eq!(
            read,
            [
                (2, style("Ink", "ink of {prompt}, bold", "colour")),
                (5, style("Two \"lines\"", "one\ntwo", "")),
                (7, style("Plain", "words", "")),
            ]
        );
        let old = super::read("name,text\nA,b\n").expect("an older file");
        assert_eq!(old, [(2, style("A", "b", ""))]);
    }

    #[test]
    fn what_is_none_is_refused_with_a_reason() {
        for (text, why) in [
            ("", "is empty"),
            ("a,b\nc,d", "name,prompt,negative_prompt"),
            ("name,prompt\n", "holds no styles"),
            ("name,prompt\nA,\"b", "line 2"),
            ("\u{0}\u{1}PNG", "name,prompt"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
