//! The text of a new home's `kms.toml`.

use std::path::Path;

/// What a new home's `kms.toml` says; all else has its default and stands in the file as a comment.
#[derive(Clone, Debug)]
pub struct NewConfig<'a> {
    /// The HSM's PKCS#11 module.
    pub module: &'a Path,
    /// The token's label or serial number.
    pub token: &'a str,
    /// The file with the user's PIN.
    pub pin_file: &'a Path,
    /// SoftHSM's configuration, where the module is SoftHSM.
    pub conf: Option<&'a Path>,
}

impl NewConfig<'_> {
    /// The text of `kms.toml`. A path that is not UTF-8 has no place in TOML and is written as nearly as possible.
    pub fn text(&self) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let conf = self.conf.map_or_else(
            || "# conf = \"softhsm2.conf\"".to_owned(),
            |conf| format!("conf = {}", quoted(&conf.to_string_lossy())),
        );
        include_str!("template.toml")
            .replace("{module}", &quoted(&self.module.to_string_lossy()))
            .replace("{token}", &quoted(self.token))
            .replace("{pin_file}", &quoted(&self.pin_file.to_string_lossy()))
            .replace("{conf}", &conf)
    }
}
