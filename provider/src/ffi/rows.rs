//! What a row of the function table becomes: an export, an entry of each list that has it, a line of
//! `provider/SUPPORT.md`. Knows the rows' form, not the rows.

/// A row: `[how far] name(C signature) = entry body`. `call` needs the module; `bare` works without.
macro_rules! cryptoki {
    (
        since_2_40 { $($first:tt)* }
        since_3_0 { $($second:tt)* }
        since_3_2 { $($third:tt)* }
    ) => {
        functions! { $($first)* }
        functions! { $($second)* }
        functions! { $($third)* }

        /// The functions of PKCS#11 2.40.
        pub(crate) static LIST_2_40: CK_FUNCTION_LIST = list!(CK_FUNCTION_LIST, 2, 40, $($first)*);
        /// The functions of PKCS#11 3.0.
        pub(crate) static LIST_3_0: CK_FUNCTION_LIST_3_0 =
            list!(CK_FUNCTION_LIST_3_0, 3, 0, $($first)* $($second)*);
        /// The functions of PKCS#11 3.2.
        pub(crate) static LIST_3_2: CK_FUNCTION_LIST_3_2 =
            list!(CK_FUNCTION_LIST_3_2, 3, 2, $($first)* $($second)* $($third)*);

        /// Name, version of PKCS#11, how far it is built, and a note, for each function.
        #[cfg(test)]
        pub(crate) const SUPPORT: &[&[(&str, &str, &str, &str)]] =
            &[support!("2.40", $($first)*), support!("3.0", $($second)*), support!("3.2", $($third)*)];
    };
}

macro_rules! functions {
    ($([$support:ident $($note:literal)?] $name:ident($($argument:ident: $type:ty),* $(,)?) = $entry:ident $body:expr;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`.")]
            /// # Safety
            /// What the specification asks of a caller: each pointer null, or valid for what it is passed as.
            #[unsafe(no_mangle)]
            #[allow(unused_variables, unused_unsafe, reason = "functions that are not built look at no argument")]
            pub(crate) unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
                // SAFETY: pointers go unread to `input`, `mechanism`, `output` and `interface`, which check what can
                // be checked; that the rest is readable and writable until we return is the caller's promise (`ffi`).
                unsafe { $entry(stringify!($name), $body) }
            }
        )*
    };
}

macro_rules! list {
    ($list:ident, $major:literal, $minor:literal, $([$($support:tt)*] $name:ident($($argument:tt)*) = $entry:ident $body:expr;)*) => {
        $list { version: CK_VERSION { major: $major, minor: $minor }, $($name: Some($name),)* }
    };
}

#[cfg(test)]
macro_rules! support {
    ($since:literal, $([$support:ident $($note:literal)?] $name:ident($($argument:tt)*) = $entry:ident $body:expr;)*) => {
        &[$((stringify!($name), $since, stringify!($support), concat!($($note)?)),)*]
    };
}
