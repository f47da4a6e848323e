//! The text of a new home's `kms.toml`.

use std::path::Path;

/// The values that a new home's `kms.toml` sets. All other keys are comments with their defaults.
#[derive(Clone, Debug)]
pub struct NewConfig<'a> {
    /// The HSM's PKCS#11 module.
    pub module: &'a Path,
    /// The token's label or serial number.
    pub token: &'a str,
    /// The file with the PIN of the token's user.
    pub pin_file: &'a Path,
    /// SoftHSM's configuration, if the module is SoftHSM.
    pub conf: Option<&'a Path>,
}

impl NewConfig<'_> {
    /// Returns the text of `kms.toml`. A path that is not UTF-8 cannot be written in TOML and is written lossily.
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
