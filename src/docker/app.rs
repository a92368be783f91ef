//! How the application that uses this client names itself and its settings.
//!
//! Requests carry its `User-Agent`. Error texts and remedies mention its settings by the names that
//! the application's users know.

/// The application's names. All texts are static, so errors carry a reference at no cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct App {
    /// Its name in errors and remedies, such as "upgrade NAME".
    pub name: &'static str,
    /// The `User-Agent` header of every request.
    pub user_agent: &'static str,
    /// The document that tells users how to make certificates, if there is one.
    pub certificate_guide: Option<&'static str>,
    pub settings: SettingNames,
}

/// What the application calls the fields of [`Settings`](crate::Settings) in its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingNames {
    pub host: &'static str,
    pub context: &'static str,
    pub tls_dir: &'static str,
    pub tls_server_name: &'static str,
    pub allow_plaintext: &'static str,
}

impl App {
    /// The names used when the application gives none: the field names of `Settings`.
    pub const DEFAULT: App = App {
        name: "this program",
        user_agent: concat!("assay-docker/", env!("CARGO_PKG_VERSION")),
        certificate_guide: None,
        settings: SettingNames {
            host: "host",
            context: "context",
            tls_dir: "tls_dir",
            tls_server_name: "tls_server_name",
            allow_plaintext: "allow_plaintext",
        },
    };
}

impl Default for &'static App {
    fn default() -> Self {
        &App::DEFAULT
    }
}
