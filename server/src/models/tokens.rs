//! How a model will cut a prompt into tokens, before any image is made: for the studio's count
//! and for `atelier tokenize`. Tokenizers alone are read, no weights.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use atelier_app::error::AppError;
use atelier_app::studio::{GenerationRequest, PromptSyntax, PromptTokens, TokenCount};
use atelier_engine::EngineError;
use atelier_engine::prompt::{PreviewToken, PromptPreview, PromptReader};

use super::Models;
use crate::config::TokenizeArgs;

/// Most models whose tokenizers are kept: each takes some tens of megabytes.
const KEPT: usize = 4;

/// A model's place, and what reads prompts for it.
type Reader = (PathBuf, Arc<PromptReader>);

/// The tokenizers read last, the latest in front.
#[derive(Clone, Default)]
pub struct Readers(Arc<Mutex<Vec<Reader>>>);

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Readers(…)")
    }
}

impl Readers {
    fn open(&self, folder: &Path) -> Result<Arc<PromptReader>, EngineError> {
        // Held while reading: whoever asks for the same model meanwhile waits for one copy.
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = match readers.iter().position(|(known, _)| known == folder) {
            Some(at) => readers.remove(at).1,
            None => Arc::new(PromptReader::open(folder)?),
        };
        readers.insert(0, (folder.to_path_buf(), reader.clone()));
        readers.truncate(KEPT);
        Ok(reader)
    }
}

impl Models {
    /// How the prompts of a request will be cut.
    ///
    /// # Errors
    /// [`AppError::Invalid`] naming the prompt or the model that cannot be read.
    pub fn prompt_tokens(&self, request: &GenerationRequest) -> Result<PromptTokens, AppError> {
        let model = self.find(request.model.as_deref())?;
        let refuse = |field: &'static str| {
            move |error: EngineError| match error {
                EngineError::InvalidRequest { message, .. } => {
                    AppError::invalid(field, format!("{field} {message}"))
                }
                other => AppError::invalid("model", other.to_string()),
            }
        };
        let reader = self.readers.open(&model.folder).map_err(refuse("model"))?;
        let syntax = engine_syntax(request.prompt_syntax);
        let (prompt, negative) = (&request.prompt, request.negative_prompt.as_deref());
        let count = |preview: PromptPreview| TokenCount {
            used: preview.used,
            room: preview.room,
            chunks: preview.chunks.len(),
            cut: preview.cut,
        };
        Ok(PromptTokens {
            prompt: reader
                .preview(prompt, syntax, negative)
                .map(count)
                .map_err(refuse("prompt"))?,
            negative_prompt: negative
                .map(|negative| reader.preview(negative, syntax, Some(prompt)))
                .transpose()
                .map_err(refuse("negative_prompt"))?
                .map(count),
        })
    }
}

/// The syntax in the engine's words.
pub fn engine_syntax(syntax: PromptSyntax) -> atelier_engine::PromptSyntax {
    match syntax {
        PromptSyntax::Auto => atelier_engine::PromptSyntax::Auto,
        PromptSyntax::Plain => atelier_engine::PromptSyntax::Plain,
        PromptSyntax::Weighted => atelier_engine::PromptSyntax::Weighted,
    }
}

/// Runs `atelier tokenize` and answers the process' exit code.
pub fn run(args: &TokenizeArgs) -> ExitCode {
    let negative = args.negative_prompt.as_deref();
    let preview = PromptReader::open(&args.model).and_then(|reader| {
        reader.preview(
            &args.prompt,
            engine_syntax(args.prompt_syntax.into()),
            negative,
        )
    });
    let preview = match preview {
        Ok(preview) => preview,
        Err(error) => {
            let line = match &error {
                EngineError::InvalidRequest { message, .. } => format!("--prompt {message}"),
                other => other.to_string(),
            };
            eprintln!("error: {line}");
            return ExitCode::from(2);
        }
    };
    match print(&preview, args.json) {
        Ok(()) => ExitCode::SUCCESS,
        // A closed pipe (`atelier tokenize … | head -1`) is no failure of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(preview: &PromptPreview, json: bool) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut stdout, preview)?;
        return writeln!(stdout);
    }
    write!(stdout, "{}", in_words(preview))
}

/// The preview for a terminal: a line of counts, a line for each chunk, what is cut.
fn in_words(preview: &PromptPreview) -> String {
    let mut text = format!(
        "{} / {} tokens, {}\n",
        preview.used,
        preview.room,
        if preview.weighted {
            "read with weights"
        } else {
            "read plainly"
        }
    );
    for (number, chunk) in (1..).zip(&preview.chunks) {
        let words: Vec<String> = chunk.iter().map(word).collect();
        text.push_str(&format!(
            "chunk {number} ({}): {}\n",
            chunk.len(),
            words.join("|")
        ));
    }
    if let Some(cut) = &preview.cut {
        text.push_str(&format!("not read: {cut}\n"));
    }
    if !preview.tokenizers_agree {
        text.push_str("the model's tokenizers cut this differently; the longer one is shown\n");
    }
    text
}

fn word(token: &PreviewToken) -> String {
    // The second token of a character has no text of its own.
    let text = token.text.replace('\n', " ");
    let text = if text.is_empty() { "·".into() } else { text };
    if token.weight == 1.0 {
        text
    } else {
        let weight = format!("{:.3}", token.weight);
        let weight = weight.trim_end_matches('0').trim_end_matches('.');
        format!("{text}:{weight}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_reads_as_lines() {
        let token = |text: &str, weight| PreviewToken {
            text: text.into(),
            id: 1,
            weight,
        };
        let preview = PromptPreview {
            weighted: true,
            chunks: vec![vec![token("a", 1.0), token("cat", 1.1), token("", 2.0)]],
            used: 3,
            room: 75,
            cut: Some("and more".into()),
            tokenizers_agree: true,
        };
        assert_eq!(
            in_words(&preview),
            "3 / 75 tokens, read with weights\nchunk 1 (3): a|cat:1.1|·:2\nnot read: and more\n"
        );
    }
}
