//! What is looked for in the gallery: the same words in the address, in the form and in the API.

use crate::components::percent_encode;
use serde::{Deserialize, Serialize};

/// Which images to show. An empty field asks for nothing; the server reads and checks them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageQuery {
    /// Words of the prompts: all of them, each also as the beginning of a longer one; `"as written"`
    /// keeps words together, `-word` leaves images out.
    pub q: String,
    /// A model's name.
    pub model: String,
    /// `1024x768`
    pub size: String,
    /// The scheduler that ran.
    pub scheduler: String,
    /// A kind of device.
    pub device: String,
    /// `2026-11`
    pub month: String,
    /// A seed.
    pub seed: String,
    /// Anything but `0` and `false`: marked ones only.
    pub favourite: String,
    /// So many stars and more.
    pub rating: String,
    /// A collection's id.
    pub collection: String,
}

impl ImageQuery {
    /// The names of its fields.
    pub const FIELDS: [&'static str; 10] = [
        "q",
        "model",
        "size",
        "scheduler",
        "device",
        "month",
        "seed",
        "favourite",
        "rating",
        "collection",
    ];

    /// The query that an address or a form holds.
    pub fn from_lookup(look: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name| look(name).unwrap_or_default();
        Self {
            q: get("q"),
            model: get("model"),
            size: get("size"),
            scheduler: get("scheduler"),
            device: get("device"),
            month: get("month"),
            seed: get("seed"),
            favourite: get("favourite"),
            rating: get("rating"),
            collection: get("collection"),
        }
    }

    /// Its values, in the order of [`ImageQuery::FIELDS`].
    pub fn values(&self) -> [&str; 10] {
        [
            &self.q,
            &self.model,
            &self.size,
            &self.scheduler,
            &self.device,
            &self.month,
            &self.seed,
            &self.favourite,
            &self.rating,
            &self.collection,
        ]
    }

    /// The same without what does not matter.
    pub fn tidy(self) -> Self {
        Self::from_lookup(|name| {
            let at = Self::FIELDS.iter().position(|field| *field == name)?;
            Some(self.values()[at].trim().to_owned())
        })
    }

    /// Whether it asks for everything.
    pub fn is_empty(&self) -> bool {
        self.values().iter().all(|value| value.trim().is_empty())
    }

    /// Whether it asks for more than a place of the gallery (favourites, a collection).
    pub fn is_search(&self) -> bool {
        let place = Self {
            favourite: self.favourite.clone(),
            collection: self.collection.clone(),
            ..Self::default()
        };
        *self != place
    }

    /// `q=red&model=demo`, without the fields that are empty.
    pub fn to_query(&self) -> String {
        Self::FIELDS
            .iter()
            .zip(self.values())
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(name, value)| format!("{name}={}", percent_encode(value.trim())))
            .collect::<Vec<_>>()
            .join("&")
    }

    /// The gallery's address with this query, and the place in it.
    pub fn address(&self, after: Option<&str>) -> String {
        let mut query = self.to_query();
        if let Some(after) = after {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str("after=");
            query.push_str(&percent_encode(after));
        }
        if query.is_empty() {
            "/gallery".into()
        } else {
            format!("/gallery?{query}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ImageQuery;

    #[test]
    fn an_address_says_what_was_asked_and_nothing_else() {
        let query = ImageQuery {
            q: "  a \"red\" & blue ".into(),
            rating: "3".into(),
            ..ImageQuery::default()
        };
        assert_eq!(
            query.address(Some("17")),
            "/gallery?q=a%20%22red%22%20%26%20blue&rating=3&after=17"
        );
        assert_eq!(ImageQuery::default().address(None), "/gallery");
        assert!(query.is_search() && !query.is_empty());
        let place = ImageQuery {
            favourite: "1".into(),
            ..ImageQuery::default()
        };
        assert!(!place.is_search() && !place.is_empty());
        assert_eq!(query.tidy().q, "a \"red\" & blue");
    }

    #[test]
    fn fields_and_values_are_in_the_same_order() {
        let query = ImageQuery::from_lookup(|name| Some(format!("<{name}>")));
        for (name, value) in ImageQuery::FIELDS.iter().zip(query.values()) {
            assert_eq!(value, format!("<{name}>"));
        }
    }
}
