//! The request that carries an export: everything but its authentication.
//!
//! What is the same for every request of a dataflow is checked and put together once. Names and
//! values of headers are types that cannot hold a line end, so no configuration and no data can add
//! a header of its own.

use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::backlog::Export;
use super::export_id::ExportId;
use super::settings::{AuthSettings, DestinationSettings, HeaderText};
use super::signature::Signer;
use crate::clock::Timestamp;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const FOREBAY_DATAFLOW: HeaderName = HeaderName::from_static("forebay-dataflow");
const FOREBAY_SEQUENCE: HeaderName = HeaderName::from_static("forebay-sequence");
const FOREBAY_TEST: HeaderName = HeaderName::from_static("forebay-test");

/// Headers that say how the message is framed or which export it is; configuration may not.
const RESERVED: [HeaderName; 14] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    WEBHOOK_ID,
    WEBHOOK_TIMESTAMP,
    WEBHOOK_SIGNATURE,
    FOREBAY_DATAFLOW,
    FOREBAY_SEQUENCE,
    FOREBAY_TEST,
];

/// What requests name as their sender.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("forebay/", env!("CARGO_PKG_VERSION")));

/// One HTTP `POST`, authentication aside.
#[derive(Clone, Debug)]
pub struct Request {
    /// The dataflow.
    pub dataflow: Arc<str>,
    /// The export's number in it.
    pub sequence: u64,
    /// Where to.
    pub uri: Uri,
    /// All headers but `Authorization`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Arc<[u8]>,
}

/// What all requests of a dataflow have in common.
#[derive(Clone, Debug)]
pub struct RequestTemplate {
    log_id: [u8; 16],
    dataflow: Arc<str>,
    uri: Uri,
    headers: HeaderMap,
    signer: Option<Signer>,
}

impl RequestTemplate {
    /// Checks and prepares. An error says what is wrong and holds no secret.
    pub fn new(
        destination: &DestinationSettings,
        dataflow: &str,
        log_id: [u8; 16],
    ) -> Result<Self, String> {
        let mut headers = configured_headers(destination)?;
        let name = HeaderValue::from_str(dataflow)
            .map_err(|_| format!("dataflow {dataflow:?} cannot stand in a header"))?;
        headers.insert(FOREBAY_DATAFLOW, name);
        let (uri, signer) = (uri(&destination.endpoint)?, signer(destination)?);
        Ok(Self { log_id, dataflow: dataflow.into(), uri, headers, signer })
    }

    /// The request for `export`, sent at `wall`.
    pub fn request(&self, export: &Export, wall: Timestamp) -> Request {
        let dataflow = self.dataflow.to_string();
        let id = ExportId { log_id: self.log_id, dataflow, sequence: export.sequence }.to_string();
        let mut headers = self.headers.clone();
        name_message(&mut headers, (&id, &export.payload), self.signer.as_ref(), wall);
        headers.insert(FOREBAY_SEQUENCE, HeaderValue::from(export.sequence));
        Request {
            dataflow: Arc::clone(&self.dataflow),
            sequence: export.sequence,
            uri: self.uri.clone(),
            headers,
            body: Arc::clone(&export.payload),
        }
    }
}

/// The request that tries `destination` out with `body`: like that of an export, but of no dataflow,
/// marked by a header, and under an id that [`ExportId`] cannot be.
pub fn sample(
    destination: &DestinationSettings,
    body: Arc<[u8]>,
    wall: Timestamp,
) -> Result<Request, String> {
    let mut headers = configured_headers(destination)?;
    let id = format!("forebay-test-{}", wall.as_millis());
    name_message(&mut headers, (&id, &body), signer(destination)?.as_ref(), wall);
    headers.insert(FOREBAY_TEST, HeaderValue::from_static("true"));
    Ok(Request {
        dataflow: "".into(),
        sequence: 0,
        uri: uri(&destination.endpoint)?,
        headers,
        body,
    })
}

/// `url` as requests name it; refused if it holds a user name or a password.
pub fn uri(url: &url::Url) -> Result<Uri, String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL may not hold a user name or password; use `auth`".to_owned());
    }
    // The fragment is for the sender only.
    let mut url = url.clone();
    url.set_fragment(None);
    url.as_str().parse().map_err(|error| format!("the URL cannot be requested: {error}"))
}

fn signer(destination: &DestinationSettings) -> Result<Option<Signer>, String> {
    let wrong = "signing_secret is not \"whsec_\" followed by base64";
    let secret = destination.signing_secret.as_ref();
    secret.map(|secret| Signer::new(secret).ok_or_else(|| wrong.to_owned())).transpose()
}

/// The headers of Standard Webhooks: id, time, and a signature if there is a key.
fn name_message(
    headers: &mut HeaderMap,
    (id, body): (&str, &[u8]),
    signer: Option<&Signer>,
    wall: Timestamp,
) {
    let timestamp = wall.as_millis().div_euclid(1_000).max(0).to_string();
    if let Some(signer) = signer {
        headers.insert(WEBHOOK_SIGNATURE, plain(&signer.sign(id, &timestamp, body)));
    }
    headers.insert(WEBHOOK_ID, plain(id));
    headers.insert(WEBHOOK_TIMESTAMP, plain(&timestamp));
}

/// What is the same for all requests to a destination.
fn configured_headers(destination: &DestinationSettings) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, AGENT);
    add_configured(&mut headers, destination)?;
    Ok(headers)
}

fn add_configured(headers: &mut HeaderMap, settings: &DestinationSettings) -> Result<(), String> {
    for (name, text) in &settings.headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is no name of a header"))?;
        let is_taken = name == AUTHORIZATION && !matches!(settings.auth, AuthSettings::None);
        if is_taken || RESERVED.contains(&name) {
            return Err(format!("header {name} is set by forebay"));
        }
        let mut value = HeaderValue::from_bytes(text.expose().as_bytes())
            .map_err(|_| format!("the value of header {name} has characters it may not have"))?;
        value.set_sensitive(matches!(text, HeaderText::Secret(_)));
        headers.insert(name, value);
    }
    Ok(())
}

/// A value made of letters, digits and base64 signs.
fn plain(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids, numbers and signatures are visible ASCII")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::RequestTemplate;
    use crate::clock::Timestamp;
    use crate::deliver::backlog::{Export, Origin, ProfileKey};
    use crate::deliver::settings::{AuthSettings, DestinationSettings, HeaderText};
    use crate::secret::Secret;

    fn settings(url: &str) -> DestinationSettings {
        DestinationSettings::new("sink", url.parse().unwrap())
    }

    fn export() -> Export {
        Export {
            sequence: 7,
            profile: ProfileKey { policy: 0, profile: 1 },
            origin: Origin::default(),
            accepted: Timestamp::EPOCH,
            payload: Arc::from(&b"{}"[..]),
        }
    }

    #[test]
    fn a_request_names_its_export() {
        let mut sink = settings("https://example.com/in?a=1#top");
        sink.headers = vec![("X-List".into(), HeaderText::Plain("a,b".into()))];
        sink.signing_secret = Some(Secret::new("whsec_AAAA".into()));
        let template = RequestTemplate::new(&sink, "flow", [1; 16]).unwrap();
        let first = template.request(&export(), Timestamp::from_millis(1_999));
        let again = template.request(&export(), Timestamp::from_millis(5_000));
        let header = |name: &str| first.headers[name].to_str().unwrap().to_owned();
        assert_eq!(first.uri.to_string(), "https://example.com/in?a=1");
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("x-list"), "a,b");
        assert_eq!(header("forebay-dataflow"), "flow");
        assert_eq!(header("forebay-sequence"), "7");
        assert_eq!(header("webhook-timestamp"), "1");
        assert!(header("webhook-signature").starts_with("v1,"));
        assert_eq!(first.headers["webhook-id"], again.headers["webhook-id"]);
        assert_ne!(first.headers["webhook-signature"], again.headers["webhook-signature"]);
    }

    #[test]
    fn headers_cannot_be_injected() {
        let bearer = AuthSettings::Bearer { token: Secret::new("t".into()) };
        // (what it shows, name, value, auth)
        let cases = [
            ("a line end in a value", "X-A", "b\r\nX-Evil: 1", AuthSettings::None),
            ("a line end in a name", "X-A\r\nX-Evil", "b", AuthSettings::None),
            ("a blank in a name", "X A", "b", AuthSettings::None),
            ("the length of the body", "Content-Length", "1", AuthSettings::None),
            ("the id of the export", "Webhook-Id", "1", AuthSettings::None),
            ("authorization beside auth", "Authorization", "x", bearer),
        ];
        for (name, header, value, auth) in cases {
            let mut sink = settings("https://example.com/");
            sink.headers = vec![(header.into(), HeaderText::Secret(Secret::new(value.into())))];
            sink.auth = auth;
            let error = RequestTemplate::new(&sink, "flow", [0; 16]).unwrap_err();
            assert!(!error.contains("Evil: 1"), "{name}: {error}");
        }
        assert!(RequestTemplate::new(&settings("https://u:p@example.com/"), "f", [0; 16]).is_err());
    }

    #[test]
    fn secret_headers_are_not_printed() {
        let mut sink = settings("https://example.com/");
        sink.headers = vec![("X-Key".into(), HeaderText::Secret(Secret::new("hunter2".into())))];
        let template = RequestTemplate::new(&sink, "flow", [0; 16]).unwrap();
        let request = template.request(&export(), Timestamp::EPOCH);
        assert!(!format!("{sink:?} {template:?} {request:?}").contains("hunter2"));
        assert_eq!(request.headers["x-key"], "hunter2");
    }
}
