//! How a destination's requests authenticate: `auth = { type = ..., ... }`.
//!
//! Each type has keys of its own. A key of another type is an error that says so, because it would
//! otherwise look as if it were in force.

use super::endpoint;
use super::secret_reference::{perhaps_secret, secret};
use super::table::Table;
use crate::deliver::settings::{AuthSettings, CredentialsStyle, OauthClient, Reach};
use crate::secret::Secret;

#[derive(Clone, Copy, PartialEq, Eq)]
enum AuthType {
    None,
    Bearer,
    ClientCredentials,
    Password,
}

const TYPES: &[(&str, AuthType)] = &[
    ("none", AuthType::None),
    ("bearer", AuthType::Bearer),
    ("oauth2_client_credentials", AuthType::ClientCredentials),
    ("oauth2_password", AuthType::Password),
];

const STYLES: &[(&str, CredentialsStyle)] = &[
    ("body_form_encoded", CredentialsStyle::BodyFormEncoded),
    ("basic_authorization", CredentialsStyle::BasicAuthorization),
];

/// Every key of any type, with the types that have it.
const KEYS: &[(&str, &[AuthType])] = &[
    ("token", &[AuthType::Bearer]),
    ("token_url", &[AuthType::ClientCredentials, AuthType::Password]),
    ("client_id", &[AuthType::ClientCredentials, AuthType::Password]),
    ("client_secret", &[AuthType::ClientCredentials, AuthType::Password]),
    ("client_credentials_type", &[AuthType::ClientCredentials]),
    ("username", &[AuthType::Password]),
    ("password", &[AuthType::Password]),
];

/// Reads `auth` of a destination that may reach what `reach` says. What is faulty counts as none.
pub(super) fn auth(destination: &mut Table<'_>, reach: Reach) -> AuthSettings {
    let Some(mut table) = destination.table("auth", "`auth`") else { return AuthSettings::None };
    let kind = table.required("type", |table, key| table.choice(key, TYPES));
    let settings = kind.and_then(|kind| read(&mut table, kind, reach));
    for (key, types) in KEYS {
        // A wrong type was reported; which keys it would have had cannot be told.
        let Some(place) = table.key_place(key) else { continue };
        let known = table.get(key).is_some() && kind.is_none_or(|kind| types.contains(&kind));
        if !known {
            let owners: Vec<String> =
                types.iter().map(|owner| format!("`{}`", type_name(*owner))).collect();
            let name = kind.map_or("", type_name);
            let message = format!("`{key}` belongs to {}, not to `{name}`", owners.join(" and "));
            table.report().error(&place, message);
        }
    }
    table.finish();
    settings.unwrap_or(AuthSettings::None)
}

fn read(table: &mut Table<'_>, kind: AuthType, reach: Reach) -> Option<AuthSettings> {
    match kind {
        AuthType::None => Some(AuthSettings::None),
        AuthType::Bearer => Some(AuthSettings::Bearer { token: table.required("token", token)? }),
        AuthType::ClientCredentials => {
            let client = client(table, reach);
            let style = table.choice("client_credentials_type", STYLES);
            let style = style.unwrap_or(CredentialsStyle::BodyFormEncoded);
            Some(AuthSettings::ClientCredentials { client: client?, style })
        }
        AuthType::Password => {
            let client = client(table, reach);
            let username = table.required("username", perhaps_secret);
            let password = table.required("password", secret);
            Some(AuthSettings::Password {
                client: client?,
                username: username?,
                password: password?,
            })
        }
    }
}

/// A token as a header can carry it.
fn token(table: &mut Table<'_>, key: &'static str) -> Option<Secret> {
    let token = secret(table, key)?;
    if !token.expose().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        let place = table.key_place(key).unwrap_or_else(|| table.place.clone());
        let help = "look for a line end, at its end perhaps";
        let message = format!("`{key}` has a character beyond printable ASCII");
        table.report().error_with_help(&place, message, Some(help.to_owned()));
        return None;
    }
    Some(token)
}

fn client(table: &mut Table<'_>, reach: Reach) -> Option<OauthClient> {
    let token_url = table.required("token_url", |table, key| endpoint::url(table, key, reach));
    let client_id = table.required("client_id", perhaps_secret);
    let client_secret = table.required("client_secret", secret);
    Some(OauthClient {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
    })
}

fn type_name(kind: AuthType) -> &'static str {
    TYPES.iter().find(|(_, other)| *other == kind).map_or("", |(name, _)| name)
}
