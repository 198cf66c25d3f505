//! Records as text, written the short way.
//!
//! Times are given without what never varies: `01T00:00:03` is `2026-01-01T00:00:03Z`. A longer
//! text is taken as it is.

use std::fmt;

/// One record. It prints as its line, without the line's end.
#[derive(Clone, Debug)]
pub struct Record {
    kind: Kind,
    identities: Vec<(String, String)>,
    time: Option<String>,
    members: String,
    dataset: Option<String>,
}

#[derive(Clone, Debug)]
enum Kind {
    Profile,
    Event { id: String },
    Membership { audience: String, status: String },
    Delete,
}

impl Record {
    /// A profile record of the customer `crmid:{customer}`.
    pub fn profile(customer: &str) -> Self {
        Self::new(Kind::Profile, customer)
    }

    /// An experience event of `crmid:{customer}`.
    pub fn event(customer: &str, id: &str) -> Self {
        Self::new(Kind::Event { id: id.to_owned() }, customer)
    }

    /// A membership of `crmid:{customer}` in an upload audience.
    pub fn membership(customer: &str, audience: &str, status: &str) -> Self {
        let (audience, status) = (audience.to_owned(), status.to_owned());
        Self::new(Kind::Membership { audience, status }, customer)
    }

    /// A delete of whoever `crmid:{customer}` is.
    pub fn delete(customer: &str) -> Self {
        Self::new(Kind::Delete, customer)
    }

    /// When it happened, or was true.
    #[must_use]
    pub fn at(mut self, time: &str) -> Self {
        self.time = Some(time_text(time));
        self
    }

    /// Further members: attributes of a profile record, fields of an event.
    #[must_use]
    pub fn with(mut self, members: &str) -> Self {
        members.clone_into(&mut self.members);
        self
    }

    /// A further identity.
    #[must_use]
    pub fn also(mut self, namespace: &str, id: &str) -> Self {
        self.identities.push((namespace.to_owned(), id.to_owned()));
        self
    }

    /// The dataset it belongs to.
    #[must_use]
    pub fn dataset(mut self, dataset: &str) -> Self {
        self.dataset = Some(dataset.to_owned());
        self
    }

    fn new(kind: Kind, customer: &str) -> Self {
        let identities = vec![("CRMID".to_owned(), customer.to_owned())];
        Self { kind, identities, time: None, members: String::new(), dataset: None }
    }

    fn identity_map(&self) -> String {
        let mut namespaces: Vec<&str> = Vec::new();
        for (namespace, _) in &self.identities {
            if !namespaces.contains(&namespace.as_str()) {
                namespaces.push(namespace);
            }
        }
        let entries = namespaces.iter().map(|namespace| {
            let of = self.identities.iter().filter(|(n, _)| n == namespace);
            let ids: Vec<String> = of.map(|(_, id)| format!("{{\"id\":\"{id}\"}}")).collect();
            format!("\"{namespace}\":[{}]", ids.join(","))
        });
        format!("\"identityMap\":{{{}}}", entries.collect::<Vec<_>>().join(","))
    }

    fn members_after_identities(&self) -> String {
        if self.members.is_empty() { String::new() } else { format!(",{}", self.members) }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (identities, members) = (self.identity_map(), self.members_after_identities());
        let time = self.time.as_ref().map(|time| format!("\"timestamp\":\"{time}\""));
        match &self.kind {
            Kind::Profile => write!(f, "{{\"profile\":{{{identities}{members}}}")?,
            Kind::Event { id } => {
                let time = time.as_deref().expect("an event has a time");
                write!(f, "{{\"event\":{{\"_id\":\"{id}\",{time},{identities}{members}}}")?;
            }
            Kind::Membership { audience, status } => write!(
                f,
                "{{\"membership\":{{\"audience\":\"{audience}\",{identities},\
                 \"status\":\"{status}\"}}"
            )?,
            Kind::Delete => write!(f, "{{\"delete\":{{{identities}}}")?,
        }
        match (time, &self.kind) {
            // An event has its time within.
            (None, _) | (_, Kind::Event { .. }) => {}
            (Some(time), _) => write!(f, ",{time}")?,
        }
        if let Some(dataset) = &self.dataset {
            write!(f, ",\"dataset\":\"{dataset}\"")?;
        }
        f.write_str("}")
    }
}

/// A time in full.
pub fn time_text(time: &str) -> String {
    if time.len() < "2026-01-01T00:00:00Z".len() { format!("2026-01-{time}Z") } else { time.into() }
}

/// Lines as a file holds them.
pub fn ndjson<T: fmt::Display>(records: impl IntoIterator<Item = T>) -> String {
    records.into_iter().fold(String::new(), |lines, record| lines + &record.to_string() + "\n")
}
