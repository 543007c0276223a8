//! Content negotiation: which media type and which view of an object a client accepts (RFC 9110 section 12.5.1;
//! Kubernetes API concepts, "Resource representations").

use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};
use http::request::Parts;

use super::query::Query;
use super::status::Status;

/// A media type that metrics-core serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl MediaType {
    /// All media types, the preferred one first.
    const ALL: [Self; 3] = [Self::Json, Self::Yaml, Self::Protobuf];

    /// Returns the media type without parameters.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn satisfies(self, clause: &Clause<'_>) -> bool {
        clause.range == "*/*"
            || clause.range == "application/*"
            || clause.range.eq_ignore_ascii_case(self.as_str())
    }
}

/// The representation of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Representation {
    /// The media type.
    pub(super) media_type: MediaType,
    /// Whether JSON is indented.
    pub(super) pretty: bool,
}

impl Representation {
    /// The representation of errors for clients that accept no supported media type.
    pub(super) const FALLBACK: Self = Self { media_type: MediaType::Json, pretty: true };
}

/// The requested version of `meta.k8s.io`, for views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetaVersion {
    /// `v1`.
    V1,
    /// `v1beta1`.
    V1beta1,
}

impl MetaVersion {
    /// Returns a name like `meta.k8s.io/v1`.
    pub(super) fn group_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What a response contains of an object or list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// All of the object.
    Full,
    /// `PartialObjectMetadata`: the metadata of one object.
    Metadata(MetaVersion),
    /// `PartialObjectMetadataList`: the metadata of a list's objects.
    MetadataList(MetaVersion),
    /// `Table`: rows and columns, as `kubectl get` prints them.
    Table(MetaVersion),
}

/// The requested version of aggregated discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiscoveryVersion {
    /// `v2`.
    V2,
    /// `v2beta1`, which Kubernetes before 1.30 requests.
    V2beta1,
}

/// One range of an `Accept` header with its parameters.
#[derive(Debug)]
struct Clause<'a> {
    range: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = text.split(';').map(str::trim);
        let range = match pieces.next()? {
            "*" => "*/*",
            range => range,
        };
        if range.split('/').count() != 2 {
            return None;
        }
        let mut clause = Self { range, quality: 1.0, parameters: Vec::new() };
        for piece in pieces {
            match piece.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some(("q", quality)) => clause.quality = quality.parse().unwrap_or(0.0),
                Some(parameter) => clause.parameters.push(parameter),
                None => {}
            }
        }
        // Also false for NaN.
        (clause.quality > 0.0).then_some(clause)
    }

    fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().rev().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// Returns the requested transformation: group, version and kind.
    fn transformation(&self) -> Option<(&'a str, &'a str, &'a str)> {
        let requested = self.parameters.iter().any(|(name, _)| matches!(*name, "as" | "g" | "v"));
        requested.then(|| (self.parameter("g"), self.parameter("v"), self.parameter("as")))
    }

    /// Ranks named types before ranges of types of equal quality.
    fn specificity(&self) -> u8 {
        match self.range {
            "*/*" => 0,
            range if range.ends_with("/*") => 1,
            _ => 2,
        }
    }
}

/// Returns the first media type, in the client's order of preference, for which `choose` returns a value. Also returns
/// whether the clause requests indented JSON.
fn first<T>(
    headers: &HeaderMap,
    choose: impl Fn(&Clause<'_>, MediaType) -> Option<T>,
) -> Option<(MediaType, bool, T)> {
    let texts: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut accept = texts.join(",");
    if accept.trim().is_empty() {
        "*/*".clone_into(&mut accept);
    }
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(b.specificity().cmp(&a.specificity())));
    clauses.iter().find_map(|clause| {
        let formats = MediaType::ALL.into_iter().filter(|media_type| media_type.satisfies(clause));
        let streamable = |media_type: &MediaType| match clause.parameter("stream") {
            "" => true,
            stream => stream == "watch" && *media_type != MediaType::Yaml,
        };
        formats.filter(streamable).find_map(|media_type| {
            choose(clause, media_type).map(|chosen| (media_type, clause.parameter("pretty") == "1", chosen))
        })
    })
}

/// Chooses the representation of a document that has only one view: discovery, or a Status.
pub(super) fn document(request: &Parts) -> Option<Representation> {
    let (media_type, pretty, ()) =
        first(&request.headers, |clause, _| clause.transformation().is_none().then_some(()))?;
    Some(Representation { media_type, pretty: pretty || wants_pretty(request) })
}

/// Chooses the representation and view of objects.
pub(super) fn objects(request: &Parts) -> Result<(Representation, View), Status> {
    let (media_type, pretty, view) = first(&request.headers, view).ok_or_else(Status::not_acceptable)?;
    Ok((Representation { media_type, pretty: pretty || wants_pretty(request) }, view))
}

/// Chooses the media type and view of watch events, which can't be YAML.
pub(super) fn events(request: &Parts) -> Result<(MediaType, View), Status> {
    let streamed = |clause: &Clause<'_>, media_type| {
        if media_type == MediaType::Yaml { None } else { view(clause, media_type) }
    };
    match first(&request.headers, streamed) {
        Some((_, _, View::MetadataList(_))) => {
            let message = "you requested PartialObjectMetadataList, but the requested object is not a list";
            Err(Status::new(406, "NotAcceptable", message))
        }
        Some((media_type, _, view)) => Ok((media_type, view)),
        None => Err(Status::not_streamable()),
    }
}

fn view(clause: &Clause<'_>, media_type: MediaType) -> Option<View> {
    let Some((group, version, kind)) = clause.transformation() else {
        return Some(View::Full);
    };
    let version = match (group, version) {
        ("meta.k8s.io", "v1") => MetaVersion::V1,
        ("meta.k8s.io", "v1beta1") => MetaVersion::V1beta1,
        _ => return None,
    };
    match kind {
        "Table" if media_type != MediaType::Protobuf => Some(View::Table(version)),
        "PartialObjectMetadata" => Some(View::Metadata(version)),
        "PartialObjectMetadataList" => Some(View::MetadataList(version)),
        _ => None,
    }
}

/// Chooses between plain discovery (`None`) and aggregated discovery at `/apis`.
pub(super) fn discovery(request: &Parts) -> Option<(Representation, Option<DiscoveryVersion>)> {
    let (media_type, pretty, version) = first(&request.headers, |clause, _| match clause.transformation() {
        None => Some(None),
        Some(("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList")) => Some(Some(DiscoveryVersion::V2)),
        Some(("apidiscovery.k8s.io", "v2beta1", "APIGroupDiscoveryList")) => {
            Some(Some(DiscoveryVersion::V2beta1))
        }
        Some(_) => None,
    })?;
    Some((Representation { media_type, pretty: pretty || wants_pretty(request) }, version))
}

/// Returns whether the client accepts `application/json`, for documents that exist only as JSON.
pub(super) fn accepts_json(request: &Parts) -> bool {
    first(&request.headers, |_, media_type| (media_type == MediaType::Json).then_some(())).is_some()
}

/// Returns whether JSON is to be indented: as `?pretty=` says, by default only for browsers, curl and wget.
fn wants_pretty(request: &Parts) -> bool {
    let query = Query::parse(request.uri.query());
    if let Some(value) = query.get("pretty").filter(|value| !value.is_empty()) {
        return matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = request.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| agent.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(accept: Option<&str>, uri: &str) -> Parts {
        let mut builder = http::Request::builder().uri(uri);
        if let Some(accept) = accept {
            builder = builder.header(ACCEPT, accept);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn chooses_media_type_and_view_by_accept_header() {
        use MediaType::{Json, Protobuf, Yaml};
        let table = "as=Table;v=v1;g=meta.k8s.io";
        for (accept, expected) in [
            ("", Some((Json, View::Full))),
            ("*/*", Some((Json, View::Full))),
            ("application/*", Some((Json, View::Full))),
            ("application/yaml", Some((Yaml, View::Full))),
            // kubectl top, the HorizontalPodAutoscaler controller, kubectl get, a watch.
            ("application/vnd.kubernetes.protobuf,application/json", Some((Protobuf, View::Full))),
            ("application/vnd.kubernetes.protobuf, */*", Some((Protobuf, View::Full))),
            (
                &format!(
                    "application/json;{table},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
                ),
                Some((Json, View::Table(MetaVersion::V1))),
            ),
            ("application/vnd.kubernetes.protobuf;stream=watch", Some((Protobuf, View::Full))),
            ("application/yaml;stream=watch", None),
            ("application/json;stream=other", None),
            // Quality orders, specificity breaks ties, zero excludes.
            ("application/json;q=0.5, application/yaml;q=0.9", Some((Yaml, View::Full))),
            ("*/*, application/yaml", Some((Yaml, View::Full))),
            ("application/json;q=0", None),
            ("application/yaml;q=x", None),
            // Views.
            (&format!("application/vnd.kubernetes.protobuf;{table}"), None),
            (
                &format!("application/vnd.kubernetes.protobuf;{table},application/json"),
                Some((Json, View::Full)),
            ),
            (&format!("*/*;{table}"), Some((Json, View::Table(MetaVersion::V1)))),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", None),
            ("application/json;as=Pod;v=v1;g=meta.k8s.io", None),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some((Protobuf, View::MetadataList(MetaVersion::V1))),
            ),
            (
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta1",
                Some((Json, View::Metadata(MetaVersion::V1beta1))),
            ),
            ("text/html", None),
            ("text/html, */*;q=0.1", Some((Json, View::Full))),
            ("nonsense", None),
        ] {
            let found = objects(&request(Some(accept), "/"))
                .ok()
                .map(|(representation, view)| (representation.media_type, view));
            assert_eq!(found, expected, "{accept}");
        }
        assert!(objects(&request(None, "/")).is_ok());
    }

    #[test]
    fn distinguishes_plain_from_aggregated_discovery() {
        let aggregated =
            |version| format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        let chosen = |accept: &str| discovery(&request(Some(accept), "/apis")).map(|(_, version)| version);
        assert_eq!(chosen("application/json"), Some(None));
        assert_eq!(chosen(&aggregated("v2")), Some(Some(DiscoveryVersion::V2)));
        assert_eq!(chosen(&aggregated("v2beta1")), Some(Some(DiscoveryVersion::V2beta1)));
        assert_eq!(chosen(&aggregated("v3")), None);
        let both = format!("{},{},application/json", aggregated("v3"), aggregated("v2beta1"));
        assert_eq!(chosen(&both), Some(Some(DiscoveryVersion::V2beta1)));
    }

    #[test]
    fn indents_for_pretty_parameter_and_curl() {
        let pretty = |uri: &str, agent: &str| {
            let mut request = request(None, uri);
            request.headers.insert(USER_AGENT, agent.parse().unwrap());
            document(&request).unwrap().pretty
        };
        assert!(pretty("/?pretty=true", "x"));
        assert!(!pretty("/?pretty=false", "curl/8"));
        assert!(pretty("/?pretty", "curl/8"));
        assert!(!pretty("/", "kubectl/v1.36"));
    }

    proptest! {
        #[test]
        fn accepts_any_header(accept in "(application/json|application/|[*/;,=]|q=|as=|Table|v=v1|g=meta\\.k8s\\.io|[ -~]){0,16}") {
            let request = request(Some(&accept), "/");
            let _ = objects(&request);
            document(&request);
            discovery(&request);
        }
    }
}
