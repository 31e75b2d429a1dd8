//! The most memory that each part of a pod's JSON may cost. A list, a value or a name beyond its bound is an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::ground::keys::{self, TEMPLATE_HASH};

/// The longest name, uid or timestamp, in bytes: the API server's own bound for most names.
pub(super) const LONGEST_NAME: usize = 253;

/// Of this program's annotations so many are kept: many more than exist.
pub(super) const MOST_KEYS: usize = 64;

/// The longest value of an annotation, in bytes: one that names as many containers as are read of a pod is shorter.
pub(super) const LONGEST_VALUE: usize = 16 * 1024;

/// A list of at most `MOST` items; a longer one is an error.
#[derive(Debug)]
pub(super) struct Capped<T, const MOST: usize>(pub(super) Vec<T>);

impl<T, const MOST: usize> Default for Capped<T, MOST> {
    fn default() -> Self {
        Capped(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Capped<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for ListVisitor<T, MOST> {
            type Value = Capped<T, MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    if all.len() == MOST {
                        return Err(A::Error::custom(format_args!("a list of more than {MOST}")));
                    }
                    all.push(one);
                }
                Ok(Capped(all))
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// The labels or annotations that this program uses; the others are skipped unread.
#[derive(Debug, Default)]
pub(super) struct Picked(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Picked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;
        impl<'de> Visitor<'de> for MapVisitor {
            type Value = Picked;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Picked, A::Error> {
                let mut picked = BTreeMap::new();
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    let ours = key.starts_with(keys::PREFIX);
                    if !ours && ![keys::LABEL, keys::MIRROR, TEMPLATE_HASH].contains(&&*key) {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value: String = map.next_value()?;
                    if value.len() > LONGEST_VALUE {
                        return Err(A::Error::custom(format_args!("a value of more than {LONGEST_VALUE} bytes")));
                    }
                    picked.insert(key.into_owned(), value);
                    if picked.len() > MOST_KEYS {
                        return Err(A::Error::custom(format_args!("more than {MOST_KEYS} keys of pre-oom-killer")));
                    }
                }
                Ok(Picked(picked))
            }
        }
        deserializer.deserialize_map(MapVisitor)
    }
}

/// A string of at most [`LONGEST_NAME`] bytes.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > LONGEST_NAME {
        return Err(D::Error::custom(format_args!("a name of more than {LONGEST_NAME} bytes")));
    }
    Ok(text)
}

/// The same; absent and `null` are `None`.
pub(super) fn some_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Name(#[serde(deserialize_with = "name")] String);
    Ok(Option::<Name>::deserialize(deserializer)?.map(|name| name.0))
}

/// `null` is an empty value, as in a watch's bookmark (`spec.containers`).
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
