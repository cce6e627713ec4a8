//! CLIP's byte-level BPE tokenizer, as transformers 5 builds it from a tokenizer folder: from
//! `vocab.json` and `merges.txt`, or from the vocabulary inside of `tokenizer.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
};

use crate::EngineError;
use crate::config::Config;

/// How CLIP cuts text into words: the special tokens, English clitics, runs of letters, single
/// digits, runs of anything else.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Tokens that a CLIP text model sees, where the folder does not say.
const DEFAULT_LENGTH: usize = 77;

/// A tokenizer.
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    bos: u32,
    eos: u32,
    pad: u32,
    comma: Option<u32>,
    model_max_length: usize,
}

/// A token of a text, and which part of the text it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its number in the vocabulary.
    pub id: u32,
    /// The bytes of the text that it was made of. Several tokens may share those of one character.
    pub range: std::ops::Range<usize>,
}

/// A prompt as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Begin, text, end, pads: `model_max_length` tokens.
    pub ids: Vec<u32>,
    /// The part of the text that did not fit.
    pub removed: Option<String>,
}

/// The special tokens of a tokenizer folder.
struct SpecialTokens {
    bos: String,
    eos: String,
    unk: String,
    pad: String,
    /// Every token that is matched in the text before words are cut, by its number where known.
    added: BTreeMap<u32, AddedToken>,
    loose: Vec<AddedToken>,
}

type Vocabulary = (BTreeMap<String, u32>, Vec<(String, String)>);

/// What SDXL's tokenizers fill prompts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The end mark: its first tokenizer.
    EndOfText,
    /// `!`, the token of number 0: its second tokenizer.
    ExclamationMark,
}

/// CLIP's marks: a text begins, a text ends.
const CLIP_MARKS: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];

/// CLIP's merges, of which its whole vocabulary follows.
pub(crate) const CLIP_MERGES: &str = include_str!("../assets/clip_merges.txt");

impl ClipTokenizer {
    /// Reads a tokenizer folder.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the file that is missing or wrong.
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        if !folder.is_dir() {
            return Err(EngineError::model(
                folder,
                "is missing; the model folder is incomplete",
            ));
        }
        let config = read_optional(&folder.join("tokenizer_config.json"))?;
        let json_path = folder.join("tokenizer.json");
        let tokenizer_json = read_optional(&json_path)?;
        let special = SpecialTokens::read(folder, config.as_ref(), tokenizer_json.as_ref())?;
        let (vocabulary, merges) = match &tokenizer_json {
            Some(json) => vocabulary_of_json(json)?,
            None => vocabulary_of_files(folder)?,
        };
        let source = if tokenizer_json.is_some() {
            json_path
        } else {
            folder.join("vocab.json")
        };
        let model_max_length = match config
            .as_ref()
            .and_then(|config| config.get("model_max_length"))
        {
            // Tokenizers without a limit carry a number of thirty digits here.
            Some(value) => value
                .as_u64()
                .and_then(|length| usize::try_from(length).ok())
                .filter(|length| (2..=4096).contains(length))
                .ok_or_else(|| {
                    EngineError::model(
                        folder.join("tokenizer_config.json"),
                        format!("`model_max_length` is {value}; SDXL's is 77"),
                    )
                })?,
            None => DEFAULT_LENGTH,
        };
        Self::build(&source, vocabulary, merges, &special, model_max_length)
    }

    /// CLIP's own tokenizer, as SDXL was published with, for models that bring none.
    ///
    /// # Errors
    /// Never, but for a damaged build.
    pub fn clip(padding: Padding) -> Result<Self, EngineError> {
        let source = Path::new("CLIP's vocabulary");
        let (vocabulary, merges) = clip_vocabulary();
        let [bos, eos] = CLIP_MARKS;
        let mark = |text: &str| AddedToken::from(text, true).normalized(true);
        let pad = match padding {
            Padding::EndOfText => eos,
            Padding::ExclamationMark => "!",
        };
        let special = SpecialTokens {
            bos: bos.to_string(),
            eos: eos.to_string(),
            unk: eos.to_string(),
            pad: pad.to_string(),
            added: BTreeMap::new(),
            // As the published special_tokens_map.json has them: padding comes last and is plain.
            loose: vec![mark(bos), mark(eos), mark(eos), AddedToken::from(pad, true)],
        };
        Self::build(source, vocabulary, merges, &special, DEFAULT_LENGTH)
    }

    fn build(
        source: &Path,
        vocabulary: BTreeMap<String, u32>,
        merges: Vec<(String, String)>,
        special: &SpecialTokens,
        model_max_length: usize,
    ) -> Result<Self, EngineError> {
        let failed = |error: tokenizers::Error| {
            EngineError::model(source, format!("is no CLIP vocabulary: {error}"))
        };
        let model = BPE::builder()
            .vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), merges)
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".to_string())
            .fuse_unk(false)
            .unk_token(special.unk.clone())
            .build()
            .map_err(failed)?;
        let mut tokenizer = Tokenizer::new(model);
        let spaces =
            Replace::new(ReplacePattern::Regex(r"\s+".to_string()), " ").map_err(failed)?;
        tokenizer
            .with_normalizer(Some(NormalizerSequence::new(vec![
                NormalizerWrapper::NFC(NFC),
                NormalizerWrapper::Replace(spaces),
                NormalizerWrapper::Lowercase(Lowercase),
            ])))
            .map_err(failed)?;
        let words = Split::new(
            SplitPattern::Regex(WORDS.to_string()),
            SplitDelimiterBehavior::Removed,
            true,
        )
        .map_err(failed)?;
        tokenizer.with_pre_tokenizer(Some(PreTokenizerSequence::new(vec![
            PreTokenizerWrapper::Split(words),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
        ])));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        for token in special.added.values().chain(&special.loose) {
            if token.special {
                tokenizer
                    .add_special_tokens([token.clone()])
                    .map_err(failed)?;
            } else {
                tokenizer.add_tokens([token.clone()]).map_err(failed)?;
            }
        }
        let id = |name: &str, token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| {
                EngineError::model(source, format!("does not hold the {name} token `{token}`"))
            })
        };
        Ok(Self {
            bos: id("begin-of-text", &special.bos)?,
            eos: id("end-of-text", &special.eos)?,
            pad: id("padding", &special.pad)?,
            comma: tokenizer.token_to_id(",</w>"),
            tokenizer,
            model_max_length,
        })
    }

    /// Number of tokens that [`ClipTokenizer::encode`] gives.
    pub fn model_max_length(&self) -> usize {
        self.model_max_length
    }

    /// The token of a comma that ends a word.
    pub fn comma(&self) -> Option<u32> {
        self.comma
    }

    /// Cuts a text into tokens: all of them, without begin, end and pads.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] if the text cannot be tokenized.
    pub fn words(&self, text: &str) -> Result<Vec<Word>, EngineError> {
        let encoding = self.tokenizer.encode(text, false).map_err(cannot)?;
        let ranges = encoding.get_offsets().iter();
        let words = encoding.get_ids().iter().zip(ranges);
        Ok(words
            .map(|(&id, &(start, end))| Word {
                id,
                range: start..end,
            })
            .collect())
    }

    /// Frames tokens with begin and end, and fills up with pads: `model_max_length` tokens. What
    /// does not fit is left out.
    pub fn frame(&self, words: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.model_max_length);
        ids.push(self.bos);
        ids.extend(words.into_iter().take(self.model_max_length - 2));
        ids.push(self.eos);
        ids.resize(self.model_max_length, self.pad);
        ids
    }

    /// The text of tokens, in lower case as the model sees it.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] if a token is not in the vocabulary.
    pub fn decode(&self, words: &[u32]) -> Result<String, EngineError> {
        let text = self.tokenizer.decode(words, false).map_err(cannot)?;
        Ok(text.replace("</w>", " ").trim().to_string())
    }

    /// Cuts a text into tokens, frames them with begin and end, cuts off what does not fit and
    /// fills up with pads.
    ///
    /// # Errors
    /// [`EngineError::InvalidRequest`] if the text cannot be tokenized.
    pub fn encode(&self, text: &str) -> Result<Tokens, EngineError> {
        let encoding = self.tokenizer.encode(text, false).map_err(cannot)?;
        let words = encoding.get_ids();
        let room = self.model_max_length - 2;
        let removed = match words.get(room..) {
            Some(rest) if !rest.is_empty() => Some(self.decode(rest)?),
            _ => None,
        };
        Ok(Tokens {
            ids: self.frame(words.iter().copied()),
            removed,
        })
    }
}

fn cannot(error: tokenizers::Error) -> EngineError {
    EngineError::invalid("prompt", format!("cannot be tokenized: {error}"))
}

impl SpecialTokens {
    /// Gathers what the files say, in transformers' order of precedence.
    fn read(
        folder: &Path,
        config: Option<&Config>,
        tokenizer_json: Option<&Config>,
    ) -> Result<Self, EngineError> {
        let mut named: BTreeMap<&str, AddedToken> = BTreeMap::new();
        for (key, default) in [
            ("bos_token", "<|startoftext|>"),
            ("eos_token", "<|endoftext|>"),
            ("unk_token", "<|endoftext|>"),
            ("pad_token", "<|endoftext|>"),
        ] {
            let token = config
                .and_then(|config| config.get(key))
                .and_then(added_token)
                .unwrap_or_else(|| AddedToken::from(default, true));
            named.insert(key, token);
        }
        let mut added = BTreeMap::new();
        let decoder = config.and_then(|config| config.get("added_tokens_decoder"));
        if let Some(Value::Object(decoder)) = decoder {
            for (id, token) in decoder {
                if let (Ok(id), Some(token)) = (id.parse(), added_token(token)) {
                    added.insert(id, token);
                }
            }
        } else {
            if let Some(map) = read_optional(&folder.join("special_tokens_map.json"))? {
                for (key, token) in &mut named {
                    if let Some(found) = map.get(key).and_then(added_token) {
                        *token = found;
                    }
                }
            }
            if let Some(extra) = read_optional(&folder.join("added_tokens.json"))? {
                for (content, id) in extra.entries() {
                    let special = named.values().any(|token| &token.content == content);
                    if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                        added.insert(id, AddedToken::from(content.clone(), special));
                    }
                }
            }
            let listed = tokenizer_json.and_then(|json| json.get("added_tokens"));
            for token in listed.and_then(Value::as_array).into_iter().flatten() {
                let id = token.get("id").and_then(Value::as_u64);
                if let (Some(id), Some(token)) = (id, added_token(token)) {
                    added.insert(id as u32, token);
                }
            }
        }
        let content = |key: &str| named[key].content.clone();
        let (bos, eos, unk, pad) = (
            content("bos_token"),
            content("eos_token"),
            content("unk_token"),
            content("pad_token"),
        );
        let mut loose: Vec<AddedToken> = Vec::new();
        // All of them, in transformers' order: of two that differ only in their flags, as a mark and
        // the same mark as padding often do, the later one counts.
        for key in ["bos_token", "eos_token", "unk_token", "pad_token"] {
            let mut token = named[key].clone();
            if !added.values().any(|known| known.content == token.content) {
                token.special = true;
                loose.push(token);
            }
        }
        Ok(Self {
            bos,
            eos,
            unk,
            pad,
            added,
            loose,
        })
    }
}

/// Tokens by number, and merges, of CLIP: bytes by their printable stand-ins, bytes that end a
/// word, merges, the two marks.
pub(crate) fn clip_vocabulary() -> Vocabulary {
    let merges: Vec<(String, String)> = CLIP_MERGES.lines().skip(1).filter_map(pair).collect();
    let bytes = byte_alphabet();
    let ends = bytes.iter().map(|byte| format!("{byte}</w>"));
    let vocabulary = bytes
        .iter()
        .map(char::to_string)
        .chain(ends)
        .chain(merges.iter().map(|(left, right)| format!("{left}{right}")))
        .chain(CLIP_MARKS.map(String::from))
        .zip(0..)
        .collect();
    (vocabulary, merges)
}

/// GPT-2's printable stand-ins for the 256 bytes, in CLIP's order.
fn byte_alphabet() -> Vec<char> {
    let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let shown = (0..256).filter(printable);
    let count = 256 - shown.clone().count() as u32;
    shown
        .chain(256..256 + count)
        .filter_map(char::from_u32)
        .collect()
}

/// A special token, given as a text or as an object with its `content`.
fn added_token(value: &Value) -> Option<AddedToken> {
    match value {
        Value::String(content) => Some(AddedToken::from(content.clone(), true)),
        Value::Object(fields) => {
            let flag = |key: &str| fields.get(key).and_then(Value::as_bool);
            let special = flag("special").unwrap_or(true);
            let token = AddedToken::from(fields.get("content")?.as_str()?.to_string(), special)
                .single_word(flag("single_word").unwrap_or(false))
                .lstrip(flag("lstrip").unwrap_or(false))
                .rstrip(flag("rstrip").unwrap_or(false))
                .normalized(flag("normalized").unwrap_or(!special));
            Some(token)
        }
        _ => None,
    }
}

fn read_optional(path: &Path) -> Result<Option<Config>, EngineError> {
    if path.is_file() {
        Config::read(path).map(Some)
    } else {
        Ok(None)
    }
}

fn vocabulary_of_json(json: &Config) -> Result<Vocabulary, EngineError> {
    let wrong =
        |what: &str| EngineError::model(json.path(), format!("is no CLIP tokenizer: {what}"));
    let model = json
        .get("model")
        .ok_or_else(|| wrong("it has no `model`"))?;
    let vocabulary = model
        .get("vocab")
        .and_then(Value::as_object)
        .ok_or_else(|| wrong("its `model` has no `vocab`"))?;
    let merges = model
        .get("merges")
        .and_then(Value::as_array)
        .ok_or_else(|| wrong("its `model` has no `merges`"))?;
    let merges = merges
        .iter()
        .map(|merge| match merge {
            Value::String(text) => pair(text),
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.clone(), right.clone())),
                _ => None,
            },
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| wrong("one of its `merges` is no pair"))?;
    let vocabulary = numbered(vocabulary).ok_or_else(|| wrong("its `vocab` maps to no numbers"))?;
    Ok((vocabulary, merges))
}

fn vocabulary_of_files(folder: &Path) -> Result<Vocabulary, EngineError> {
    let vocab_path = folder.join("vocab.json");
    let config = Config::read(&vocab_path)?;
    let vocabulary: BTreeMap<String, u32> = config
        .entries()
        .map(|(token, id)| Some((token.clone(), u32::try_from(id.as_u64()?).ok()?)))
        .collect::<Option<_>>()
        .ok_or_else(|| EngineError::model(&vocab_path, "maps tokens to something not a number"))?;
    let merges_path = folder.join("merges.txt");
    if !merges_path.is_file() {
        return Err(EngineError::model(
            merges_path,
            "is missing; a tokenizer needs vocab.json and merges.txt, or tokenizer.json",
        ));
    }
    let text = std::fs::read_to_string(&merges_path)
        .map_err(|error| EngineError::model(&merges_path, format!("cannot be read: {error}")))?;
    let merges = text
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.trim().is_empty())
        .map(|line| {
            pair(line).ok_or_else(|| {
                EngineError::model(
                    &merges_path,
                    format!("has a line that is no pair: `{line}`"),
                )
            })
        })
        .collect::<Result<_, _>>()?;
    Ok((vocabulary, merges))
}

fn numbered(map: &serde_json::Map<String, Value>) -> Option<BTreeMap<String, u32>> {
    map.iter()
        .map(|(token, id)| Some((token.clone(), u32::try_from(id.as_u64()?).ok()?)))
        .collect()
}

fn pair(text: &str) -> Option<(String, String)> {
    let (left, right) = text.split_once(' ')?;
    (!left.is_empty() && !right.is_empty()).then(|| (left.to_string(), right.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer folder with bytes for the letters of "red cat!" and two merged words.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let mut tokens: Vec<String> = vec!["!".into()];
        for letter in "redcatÃ©".chars() {
            tokens.push(letter.to_string());
            tokens.push(format!("{letter}</w>"));
        }
        tokens.extend(["!</w>", "re", "red</w>", "ca", "cat</w>"].map(String::from));
        tokens.extend(["<|startoftext|>", "<|endoftext|>"].map(String::from));
        tokens.dedup();
        let mut vocabulary = serde_json::Map::new();
        for token in tokens {
            let next = vocabulary.len();
            vocabulary.entry(token).or_insert(next.into());
        }
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("vocab.json", Value::Object(vocabulary).to_string());
        write(
            "merges.txt",
            "#version: 0.2\nr e\nre d</w>\nc a\nca t</w>\n".into(),
        );
        write(
            "tokenizer_config.json",
            r#"{"model_max_length": 8, "pad_token": "!"}"#.into(),
        );
        folder
    }

    fn words(tokenizer: &ClipTokenizer, text: &str) -> Vec<String> {
        let ids = tokenizer.encode(text).expect("tokenized").ids;
        ids.iter()
            .map(|&id| tokenizer.tokenizer.id_to_token(id).expect("known"))
            .collect()
    }

    #[test]
    fn text_is_cleaned_framed_and_padded() {
        let folder = folder();
        let tokenizer = ClipTokenizer::open(folder.path()).expect("a tokenizer");
        let (bos, eos) = ("<|startoftext|>", "<|endoftext|>");
        let expected = [bos, "red</w>", "cat</w>", eos, "!", "!", "!", "!"];
        assert_eq!(words(&tokenizer, "  RED \t\n cat "), expected);
        // The pad token in a text is itself, not the word that looks like it.
        assert_eq!(words(&tokenizer, "cat!")[1..4], ["cat</w>", "!", eos]);
        // Composed and decomposed é are the same two bytes.
        assert_eq!(words(&tokenizer, "é"), words(&tokenizer, "e\u{301}"));
        // What is not in the vocabulary becomes the unknown token.
        assert_eq!(words(&tokenizer, "z")[1], eos);
    }

    #[test]
    fn what_does_not_fit_is_reported() {
        let folder = folder();
        let tokenizer = ClipTokenizer::open(folder.path()).expect("a tokenizer");
        let exact = tokenizer
            .encode("red red red red red red")
            .expect("tokenized");
        assert_eq!((exact.ids.len(), exact.removed), (8, None));
        let long = tokenizer
            .encode("red red red red red red cat red")
            .expect("tokenized");
        assert_eq!(long.ids, exact.ids);
        assert_eq!(long.removed.as_deref(), Some("cat red"));
    }

    #[test]
    fn missing_and_wrong_files_are_named() {
        let folder = folder();
        std::fs::remove_file(folder.path().join("merges.txt")).expect("removed");
        let error = ClipTokenizer::open(folder.path())
            .err()
            .expect("no merges")
            .to_string();
        assert!(error.contains("merges.txt"), "{error}");
        std::fs::write(folder.path().join("merges.txt"), "r x\n").expect("written");
        assert!(ClipTokenizer::open(folder.path()).is_err());
    }
}
