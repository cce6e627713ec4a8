//! Reading the JSON configs of a model folder, so that nothing in them is passed over in silence.
//!
//! Every key is asked for by name; [`Config::finish`] refuses what nobody asked for. Errors name
//! the file, the key and the value.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use crate::EngineError;

/// One JSON object of a model folder.
pub struct Config {
    path: PathBuf,
    values: Map<String, Value>,
    asked: Mutex<BTreeSet<String>>,
}

impl Config {
    /// Reads `path`.
    ///
    /// # Errors
    /// [`EngineError::Model`] if it cannot be read or is no JSON object.
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = if error.kind() == std::io::ErrorKind::NotFound {
                "is missing; the folder is incomplete".to_string()
            } else {
                format!("cannot be read: {error}")
            };
            EngineError::model(path, message)
        })?;
        Self::parse(path, &text)
    }

    /// Parses `text` as the contents of `path`.
    ///
    /// # Errors
    /// [`EngineError::Model`] if it is no JSON object.
    pub fn parse(path: &Path, text: &str) -> Result<Self, EngineError> {
        let parsed = serde_json::from_str(text).or_else(|error| {
            // Python writes infinities into JSON, which has none; diffusers means "no limit".
            serde_json::from_str(&without_infinities(text)).map_err(|_| error)
        });
        match parsed {
            Ok(Value::Object(values)) => Ok(Self {
                path: path.to_path_buf(),
                values,
                asked: Mutex::default(),
            }),
            Ok(_) => Err(EngineError::model(path, "is not a JSON object")),
            Err(error) => Err(EngineError::model(path, format!("is not JSON: {error}"))),
        }
    }

    /// The same values, as if they had been read from another file.
    pub fn at(&self, path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            values: self.values.clone(),
            asked: Mutex::default(),
        }
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn asked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of `key`; `None` if it is absent or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.asked().insert(key.to_string());
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is there at all, be it null.
    pub fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// All keys and values, for files that are maps rather than settings.
    pub fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.values.iter()
    }

    /// Replaces a value.
    pub fn set(&mut self, key: &str, value: Value) {
        self.values.insert(key.to_string(), value);
    }

    /// Marks keys as known and without effect on what the engine computes.
    pub fn ignore(&self, keys: &[&str]) {
        let mut asked = self.asked();
        asked.extend(keys.iter().map(ToString::to_string));
    }

    /// An error about `key` and its value.
    pub fn unsupported(&self, key: &str, supported: &str) -> EngineError {
        let value = self
            .values
            .get(key)
            .map_or_else(|| "absent".to_string(), ToString::to_string);
        EngineError::model(
            &self.path,
            format!("`{key}` is {value}, which is not supported; {supported}"),
        )
    }

    fn wrong(&self, key: &str, wanted: &str) -> EngineError {
        let value = self
            .values
            .get(key)
            .map_or_else(|| "absent".to_string(), ToString::to_string);
        EngineError::model(
            &self.path,
            format!("`{key}` is {value}, where {wanted} is needed"),
        )
    }

    /// Checks the class that the config says it describes, if it does.
    ///
    /// # Errors
    /// [`EngineError::Model`] naming another class.
    pub fn expect_class(&self, class: &str) -> Result<(), EngineError> {
        match self.get("_class_name") {
            Some(value) if value != class => {
                Err(self.unsupported("_class_name", &format!("SDXL's is {class}")))
            }
            _ => Ok(()),
        }
    }

    /// A whole number of at least one.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn size(&self, key: &str, default: usize) -> Result<usize, EngineError> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    /// A whole number of at least one, or nothing.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>, EngineError> {
        self.get(key)
            .map(|value| as_size(value).ok_or_else(|| self.wrong(key, "a positive whole number")))
            .transpose()
    }

    /// A number of layers, at least one.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn layers(&self, key: &str, default: usize) -> Result<usize, EngineError> {
        self.get(key).map_or(Ok(default), |value| {
            as_layers(value).ok_or_else(|| self.wrong(key, "a number of layers"))
        })
    }

    /// A whole number, which may be negative or zero.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn integer(&self, key: &str, default: i64) -> Result<i64, EngineError> {
        self.get(key).map_or(Ok(default), |value| {
            value
                .as_i64()
                .ok_or_else(|| self.wrong(key, "a whole number"))
        })
    }

    /// A finite number.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn number(&self, key: &str, default: f64) -> Result<f64, EngineError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// A finite number, or nothing.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, EngineError> {
        self.get(key)
            .map(|value| value.as_f64().ok_or_else(|| self.wrong(key, "a number")))
            .transpose()
    }

    /// True or false.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, EngineError> {
        self.get(key).map_or(Ok(default), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.wrong(key, "true or false"))
        })
    }

    /// A text.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn text(&self, key: &str, default: &str) -> Result<String, EngineError> {
        Ok(self
            .optional_text(key)?
            .unwrap_or_else(|| default.to_string()))
    }

    /// A text, or nothing.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn optional_text(&self, key: &str) -> Result<Option<String>, EngineError> {
        self.get(key)
            .map(|value| {
                value
                    .as_str()
                    .map(str::to_string)
                    .ok_or_else(|| self.wrong(key, "a text"))
            })
            .transpose()
    }

    /// A list of texts.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn texts(&self, key: &str, default: &[&str]) -> Result<Vec<String>, EngineError> {
        let Some(value) = self.get(key) else {
            return Ok(default.iter().map(ToString::to_string).collect());
        };
        value
            .as_array()
            .and_then(|list| {
                list.iter()
                    .map(|item| item.as_str().map(str::to_string))
                    .collect()
            })
            .ok_or_else(|| self.wrong(key, "a list of texts"))
    }

    /// A list of positive whole numbers.
    ///
    /// # Errors
    /// If the value is anything else, or empty.
    pub fn sizes(&self, key: &str, default: &[usize]) -> Result<Vec<usize>, EngineError> {
        let Some(value) = self.get(key) else {
            return Ok(default.to_vec());
        };
        value
            .as_array()
            .and_then(|list| list.iter().map(as_size).collect::<Option<Vec<_>>>())
            .filter(|list| !list.is_empty())
            .ok_or_else(|| self.wrong(key, "a list of positive whole numbers"))
    }

    /// A list of numbers, or nothing.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn optional_numbers(&self, key: &str) -> Result<Option<Vec<f64>>, EngineError> {
        self.get(key)
            .map(|value| {
                value
                    .as_array()
                    .and_then(|list| list.iter().map(Value::as_f64).collect())
                    .ok_or_else(|| self.wrong(key, "a list of numbers"))
            })
            .transpose()
    }

    /// A value for each of `count` blocks, given as one value for all or as a list.
    ///
    /// # Errors
    /// If an item is not what `read` accepts, or the list has another length.
    pub fn per_block<T: Clone>(
        &self,
        key: &str,
        count: usize,
        default: T,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, EngineError> {
        match self.get(key) {
            None => Ok(vec![default; count]),
            Some(Value::Array(list)) => {
                if list.len() != count {
                    return Err(EngineError::model(
                        &self.path,
                        format!(
                            "`{key}` has {} values, but the model has {count} blocks",
                            list.len()
                        ),
                    ));
                }
                list.iter()
                    .map(|item| read(item).ok_or_else(|| self.wrong(key, wanted)))
                    .collect()
            }
            Some(value) => {
                let value = read(value).ok_or_else(|| self.wrong(key, wanted))?;
                Ok(vec![value; count])
            }
        }
    }

    /// Refuses every value that was not asked for, except nulls, `false` and keys that begin with
    /// an underscore (notes of the tool that wrote the file).
    ///
    /// # Errors
    /// [`EngineError::Model`] naming the first such key and its value.
    pub fn finish(&self) -> Result<(), EngineError> {
        let asked = self.asked();
        for (key, value) in &self.values {
            let idle = value.is_null() || value == &Value::Bool(false) || key.starts_with('_');
            if !idle && !asked.contains(key) {
                return Err(EngineError::model(
                    &self.path,
                    format!(
                        "`{key}` is {value}, which this engine does not know; remove the key if it has no effect"
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Python's `Infinity` and `-Infinity`, outside of strings, as null. Its `NaN` stays what it is, an
/// error: no setting means that.
fn without_infinities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Every second piece between quotes is a string, but for escaped quotes.
    let mut in_string = false;
    for piece in text.split_inclusive('"') {
        if in_string {
            out.push_str(piece);
        } else {
            let piece = piece.replace("-Infinity", "null");
            out.push_str(&piece.replace("Infinity", "null"));
        }
        let backslashes = piece
            .strip_suffix('"')
            .map_or(0, |inner| inner.len() - inner.trim_end_matches('\\').len());
        if piece.ends_with('"') && !(in_string && backslashes % 2 == 1) {
            in_string = !in_string;
        }
    }
    out
}

/// Largest size believed: beyond it a config is damaged, and sums over sizes could overflow.
const MAX_SIZE: usize = 1 << 24;
/// Largest number of layers believed.
const MAX_LAYERS: usize = 1000;

/// A number of layers: as [`as_size`], within reason.
pub fn as_layers(value: &Value) -> Option<usize> {
    as_size(value).filter(|&layers| layers <= MAX_LAYERS)
}

/// A positive whole number within reason, also when written as `4.0`.
pub fn as_size(value: &Value) -> Option<usize> {
    let number = value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (1.0..1e15).contains(number))
            .map(|number| number as u64)
    })?;
    usize::try_from(number)
        .ok()
        .filter(|number| (1..=MAX_SIZE).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("unet/config.json"), text).expect("valid JSON")
    }

    #[test]
    fn unknown_values_are_refused_by_name() {
        let config =
            config(r#"{"known": 1, "novel": "x", "off": false, "none": null, "_by": "y"}"#);
        assert_eq!(config.size("known", 2).expect("a size"), 1);
        let error = config.finish().expect_err("`novel` is unknown").to_string();
        assert!(
            error.contains("unet/config.json")
                && error.contains("novel")
                && error.contains("\"x\"")
        );
    }

    #[test]
    fn pythons_infinities_mean_no_value() {
        let text = r#"{"limit": -Infinity, "name": "Infinity \" NaN", "other": Infinity}"#;
        let config = config(text);
        assert_eq!(config.optional_number("limit").expect("null"), None);
        assert_eq!(config.text("name", "").expect("a text"), "Infinity \" NaN");
    }

    #[test]
    fn wrong_types_name_key_and_value() {
        let config = config(r#"{"heads": -3, "list": [1, 2]}"#);
        let error = config.size("heads", 1).expect_err("negative").to_string();
        assert!(error.contains("heads") && error.contains("-3"), "{error}");
        let error = config
            .per_block("list", 3, 1, "a number", as_size)
            .expect_err("two for three")
            .to_string();
        assert!(
            error.contains("2 values") && error.contains("3 blocks"),
            "{error}"
        );
    }
}
