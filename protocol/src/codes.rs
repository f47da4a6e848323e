//! Types for the numeric codes of PKCS#11: one newtype per family, so that unknown values survive a round trip, and
//! names for the known ones. A test compares every constant with the C header's bindings.

/// Declares a family of PKCS#11 codes.
macro_rules! codes {
    ($(#[$doc:meta])* $type:ident, $prefix:literal { $($(#[$item:meta])* $name:ident = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
        pub struct $type(pub u32);

        #[allow(missing_docs, reason = "the names are the specification's")]
        impl $type {
            $($(#[$item])* pub const $name: Self = Self($value);)*

            /// Every code that has a name, with that name as the specification writes it.
            pub const NAMED: &'static [(Self, &'static str)] =
                &[$((Self($value), concat!($prefix, stringify!($name))),)*];

            /// The specification's name, if the code is known.
            pub fn name(self) -> Option<&'static str> {
                Self::NAMED.iter().find(|(code, _)| *code == self).map(|(_, name)| *name)
            }

            /// The code with this name in the specification.
            pub fn named(name: &str) -> Option<Self> {
                Self::NAMED.iter().find(|(_, known)| *known == name).map(|(code, _)| *code)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!($prefix, "{:#x}"), self.0),
                }
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use codes;
