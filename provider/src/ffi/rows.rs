//! The macros of the function table. `functions!` turns each row into an exported function and a line of
//! `provider/SUPPORT.md`; `function_lists!` builds the function lists. The rows themselves are in `table`.

/// Rows: `[yes or no, "note"] name(C signature) = entry body;`. The entry is `call` for functions that need the module
/// to be initialised, `without_module` for the others.
macro_rules! functions {
    ($([$support:ident $($note:literal)?] $name:ident($($argument:ident: $type:ty),* $(,)?) = $entry:ident $body:expr;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`.")]
            /// # Safety
            /// What the specification requires of callers: each pointer is null, or valid for its use in this function.
            #[unsafe(no_mangle)]
            #[allow(unused_variables, unused_unsafe, reason = "unsupported functions use no argument")]
            pub(crate) unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
                // SAFETY: pointers are passed on unread to `input`, `mechanism`, `output` and `interface`, which check
                // what can be checked; the caller promises that the rest is readable and writable until we return
                // (`ffi`).
                unsafe { $entry(stringify!($name), $body) }
            }
        )*

        /// Each function of this file: its name, whether it is supported, and a note.
        #[cfg(test)]
        pub(super) const SUPPORT: &[(&str, &str, &str)] =
            &[$((stringify!($name), stringify!($support), concat!($($note)?)),)*];
    };
}

/// The three function lists, from the functions that each version of PKCS#11 added, in the specification's order.
macro_rules! function_lists {
    (
        since_2_40 { $($first:ident)* }
        since_3_0 { $($second:ident)* }
        since_3_2 { $($third:ident)* }
    ) => {
        /// The functions of PKCS#11 2.40.
        pub(crate) static LIST_2_40: CK_FUNCTION_LIST =
            CK_FUNCTION_LIST { version: CK_VERSION { major: 2, minor: 40 }, $($first: Some($first),)* };
        /// The functions of PKCS#11 3.0.
        pub(crate) static LIST_3_0: CK_FUNCTION_LIST_3_0 = CK_FUNCTION_LIST_3_0 {
            version: CK_VERSION { major: 3, minor: 0 },
            $($first: Some($first),)* $($second: Some($second),)*
        };
        /// The functions of PKCS#11 3.2.
        pub(crate) static LIST_3_2: CK_FUNCTION_LIST_3_2 = CK_FUNCTION_LIST_3_2 {
            version: CK_VERSION { major: 3, minor: 2 },
            $($first: Some($first),)* $($second: Some($second),)* $($third: Some($third),)*
        };

        /// Each version of PKCS#11 and the functions that it added.
        #[cfg(test)]
        pub(crate) const ADDED: [(&str, &[&str]); 3] = [
            ("2.40", &[$(stringify!($first)),*]),
            ("3.0", &[$(stringify!($second)),*]),
            ("3.2", &[$(stringify!($third)),*]),
        ];
    };
}
