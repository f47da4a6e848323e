//! Names, descriptions and tags: checked once, when a request is parsed.

use std::collections::BTreeMap;

use super::Problem;

/// The maximum length of a display name, in characters.
pub const DISPLAY_NAME_MAX: usize = 64;

/// The maximum length of a description, in characters: the vendor's clients fail when they read longer ones.
pub const DESCRIPTION_MAX: usize = 256;

/// The maximum number of tags of a key.
pub const TAGS_MAX: usize = 50;

/// The maximum length of a tag's name and of its value, in characters.
pub const TAG_MAX: usize = 128;

/// A display name: 1 to 64 of `a-z`, `A-Z`, `0-9`, `_` and `-`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DisplayName(String);

impl DisplayName {
    /// Checks a name.
    ///
    /// # Errors
    /// 400, with the rule that it violates.
    pub fn new(name: impl Into<String>) -> Result<Self, Problem> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > DISPLAY_NAME_MAX || !name.bytes().all(allowed) {
            let rule = "displayName must be 1 to 64 letters (a-z, A-Z), digits, \"_\" or \"-\"";
            return Err(Problem::malformed(rule));
        }
        Ok(Self(name))
    }

    /// The display name that is most similar to a PKCS#11 label, which may be any bytes.
    pub fn nearest(label: &[u8]) -> Self {
        let allowed = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
        let text = String::from_utf8_lossy(label);
        let name: String =
            text.chars().take(DISPLAY_NAME_MAX).map(|c| if allowed(c) { c } else { '_' }).collect();
        Self(if name.is_empty() { "unnamed".to_owned() } else { name })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A description: up to 256 characters. An empty one counts as none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Description(Option<String>);

impl Description {
    /// Checks a description.
    ///
    /// # Errors
    /// 400 when it is too long.
    pub fn new(text: Option<String>) -> Result<Self, Problem> {
        let count = text.as_ref().map_or(0, |text| text.chars().count());
        if count > DESCRIPTION_MAX {
            let rule = format!("description must have at most 256 characters; this one has {count}");
            return Err(Problem::malformed(rule));
        }
        Ok(Self(text.filter(|text| !text.is_empty())))
    }

    /// The text, if there is one.
    pub fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Tags: names with values that the customer chooses (an extension).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Checks tags.
    ///
    /// # Errors
    /// 400, with the rule that they violate.
    pub fn new(tags: BTreeMap<String, String>) -> Result<Self, Problem> {
        if tags.len() > TAGS_MAX {
            return Err(Problem::malformed(format!(
                "tags: a key has at most {TAGS_MAX} tags; these are {}",
                tags.len()
            )));
        }
        let invalid = |name: &str| name.is_empty() || name.chars().count() > TAG_MAX;
        if let Some((name, _)) =
            tags.iter().find(|(name, value)| invalid(name) || value.chars().count() > TAG_MAX)
        {
            let shown: String = name.chars().take(20).collect();
            let rule =
                format!("tags: {shown:?}: a tag has 1 to {TAG_MAX} characters, its value up to {TAG_MAX}");
            return Err(Problem::malformed(rule));
        }
        Ok(Self(tags))
    }

    /// The tags.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_to_their_end() {
        for good in ["a", "A-b_9", &"x".repeat(64)] {
            assert_eq!(DisplayName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "ab\n", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(DisplayName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn descriptions_are_counted_in_characters_and_empty_ones_are_none() {
        assert_eq!(Description::new(Some("ä".repeat(256))).unwrap().text().unwrap().chars().count(), 256);
        assert!(Description::new(Some("ä".repeat(257))).is_err());
        assert_eq!(Description::new(Some(String::new())).unwrap(), Description::new(None).unwrap());
    }

    #[test]
    fn every_label_has_a_display_name() {
        for (label, name) in [(b"a.b".as_slice(), "a_b"), (b"", "unnamed"), (b"\xff!", "__")] {
            assert_eq!(DisplayName::nearest(label).as_str(), name);
            assert!(DisplayName::new(name).is_ok());
        }
    }
}
