//! A text that must not be seen: passwords, tokens, signing keys.
//!
//! A secret reaches the engine through `${env:NAME}` or `${file:PATH}` and leaves it in a request,
//! nowhere else (`SPEC.md` §8). So the type has no `Display` and no serialisation, its `Debug` hides
//! the text, and the one way to the text has a name that stands out in review.

use std::fmt;

/// A text that is used but never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` out of sight.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the request it belongs in.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "[secret] Some(\n    [secret],\n)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
