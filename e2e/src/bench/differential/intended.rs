//! Every intended difference between metrics-core and metrics-server, with its reason. Any other difference fails the
//! comparison, and so does one that is listed here and does not occur.

/// Differences that have the same reason.
#[derive(Clone, Copy, Debug)]
pub struct Intended {
    /// The reason.
    pub reason: &'static str,
    /// The places where the responses differ.
    pub places: &'static [Place],
}

/// A place where the responses may differ. In the patterns `*` matches any text, also the empty one.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The requests, as the report prints them.
    pub request: &'static str,
    /// The aspect: `status`, `header NAME`, `layout`, `order PATH` or `body PATH`.
    pub aspect: &'static str,
    /// The value of metrics-core.
    pub metrics_core: &'static str,
    /// The value of metrics-server.
    pub metrics_server: &'static str,
}

const fn at(
    request: &'static str,
    aspect: &'static str,
    metrics_core: &'static str,
    metrics_server: &'static str,
) -> Place {
    Place { request, aspect, metrics_core, metrics_server }
}

/// All intended differences.
pub const INTENDED: &[Intended] = &[
    Intended {
        reason: "metrics.k8s.io/v1 is served beside v1beta1, and preferred.",
        places: &[
            at("* GET /apis*", "body */versions[metrics.k8s.io/v1]", "{*", "-"),
            at("* GET /apis*", "body */preferredVersion/*", "\"*v1\"", "\"*v1beta1\""),
            at("* GET /apis *", "body /items[metrics.k8s.io]/versions[v1]", "{*", "-"),
            at("* GET /openapi/v3*", "body [apis/metrics.k8s.io/v1]", "*", "-"),
            at("*", "body /paths[/apis/metrics.k8s.io/v1]", "*", "-"),
        ],
    },
    Intended {
        reason: "Aggregated discovery v2beta1 is still served, for API servers before 1.30.",
        places: &[at("* GET /apis [Accept: *v=v2beta1;as=APIGroupDiscoveryList]", "status", "200", "406 *")],
    },
    Intended {
        reason: "Aggregated discovery names the group and version of each kind.",
        places: &[
            at("* GET /apis *", "body *]/responseKind/group", "\"metrics.k8s.io\"", "*"),
            at("* GET /apis *", "body *]/responseKind/version", "\"v1beta1\"", "*"),
        ],
    },
    Intended {
        reason: "/apis has its apiVersion, and no address of the server, which clients do not go by.",
        places: &[
            at("* GET /apis*", "body /apiVersion", "\"v1\"", "*"),
            at("* GET /apis*", "body /groups[metrics.k8s.io]/serverAddressByClientCIDRs", "-", "[*"),
        ],
    },
    Intended {
        reason: "limit and continue are honoured.",
        places: &[
            at("* GET *limit=1 *", "body /items[*]", "-", "{*"),
            at("* GET *limit=1 *", "body /metadata/continue", "\"*", "-"),
            at("* GET *continue=nonsense*", "status", "400 *", "200"),
        ],
    },
    Intended {
        reason: "Watch is served, so that lists and objects have a resourceVersion to follow.",
        places: &[
            at("* GET /apis*", "body *verbs*[watch]", "\"watch\"", "-"),
            at("* GET *watch=*", "status", "200", "405 *"),
            at("* GET /apis/metrics.k8s.io/*", "body *metadata/resourceVersion", "\"*\"", "-"),
            at("* GET /apis/metrics.k8s.io/*", "body /metadata", "{\"resourceVersion\":*", "-"),
        ],
    },
    Intended { reason: "Containers are ordered by name.", places: &[at("*", "order *containers", "*", "*")] },
    Intended {
        reason: "An empty list is an empty list in each form, a table's columns included.",
        places: &[
            at("*/namespaces/none-such/pods *", "body /items", "[]", "null"),
            at("* GET *", "body /rows", "[]", "null"),
            at("* GET *", "body /columnDefinitions", "[{*", "null"),
        ],
    },
    Intended {
        reason: "A parameter at fault is named in details.causes.",
        places: &[at("* GET *", "body /details", "{\"causes\":[*", "-")],
    },
    Intended {
        reason: "Faults are told in the words of the API rather than of Go and its regular expressions.",
        places: &[
            at("*labelSelector=*", "body /message", "\"unable to parse requirement: invalid *", "\"unable *"),
            at("* GET *", "body /message", "\"* is not an integer\"", "\"strconv.ParseInt: *"),
            at("* GET *", "body /message", "\"only the following media types *", "\"406: Not Acceptable*"),
            at("* GET *", "body /details", "-", "{}"),
            at(
                "* GET *",
                "body /message",
                "\"you requested * a list\"",
                "\"you requested * a list (\\*metrics.*",
            ),
        ],
    },
    Intended {
        reason: "Accept is read by RFC 9110: ranges of types, upper case and q=0 count.",
        places: &[
            at("*[Accept: application/\\*]", "status", "*", "406 *"),
            at("*[Accept: APPLICATION/JSON]", "status", "*", "406 *"),
            at("*[Accept: application/json;q=0]", "status", "406 *", "*"),
        ],
    },
    Intended {
        reason: "A form that can't be had is refused before the object is looked for.",
        places: &[at("*as=PartialObjectMetadataList;*", "status", "406 you requested *", "404 *")],
    },
    Intended {
        reason: "405 says what is allowed (RFC 9110); /openapi/v2 takes GET alone, and /version HEAD as well.",
        places: &[
            at("*", "header allow", "GET", "-"),
            at("* /openapi/v2", "status", "405 *", "200"),
            at("* HEAD /version", "status", "200", "405"),
        ],
    },
    Intended {
        reason: "A selector or path with an empty or impossible part is refused rather than taken for another.",
        places: &[
            at("*fieldSelector== *", "status", "400 *", "200"),
            at("*labelSelector=%00 *", "status", "400 *", "200"),
            at("*//nodes *", "body /*", "*", "*"),
            at("*//nodes *", "layout", "indented", "dense"),
            at("*/namespaces//pods *", "status", "404", "200"),
        ],
    },
    Intended {
        reason: "Impersonation is refused to everybody: only kube-apiserver knows who may.",
        places: &[
            at("* [Impersonate-User: *]", "body /message", "\"forbidden: impersonation *", "*"),
            at("* [Impersonate-User: *]", "body /details", "-", "{*"),
        ],
    },
    Intended {
        reason: "No answer takes long, so a client's own timeout is not read.",
        places: &[at("*timeout=nonsense *", "status", "200", "400 *")],
    },
    Intended {
        reason: "OpenAPI describes what is served, as JSON, and not what discovery and /version are; a document that \
                 is not there is not found.",
        places: &[
            at("* GET /openapi/v3*", "body [*]", "-", "*"),
            at("* GET /openapi/*", "body /kinds/*", "{*", "-"),
            at("* GET /openapi/*", "body /paths/", "-", "{*"),
            at("* /openapi/*", "header vary", "*", "*"),
            at("* GET /openapi/v2 [Accept: *protobuf]", "status", "406 *", "200"),
            at("* GET /openapi/v3 *", "status", "406 *", "200"),
            at("* GET /openapi/v3/*", "status", "404", "*"),
            at("* GET /openapi/*", "body ", "{*Not*", "\"\""),
            at("* GET /openapi/*", "header content-type", "application/json", "-"),
            at("* GET /openapi/*", "layout", "indented", "dense"),
        ],
    },
    Intended {
        reason: "The version, checks and paths of each program are its own; what shows internals is not served.",
        places: &[
            at("* GET /version*", "body /*", "*", "*"),
            at("* GET /*z?verbose", "body ", "*", "*"),
            at("*", "body /paths[*]", "-", "*"),
            at("* GET /debug/pprof/", "status", "404", "200"),
            at("* GET /statusz", "status", "404", "200"),
            at("* GET /index.html", "status", "404", "200"),
            at("* GET /debug/flags/v", "status", "404", "406"),
        ],
    },
    Intended {
        reason: "More is told by /metrics under the same prefix; its type is plain text 0.0.4.",
        places: &[
            at("* /metrics", "body [metrics_server_*]", "*", "-"),
            at(
                "* /metrics",
                "header content-type",
                "text/plain; version=0.0.4; charset=utf-8",
                "*escaping=*",
            ),
        ],
    },
    Intended {
        reason: "Plain text is never to be taken for another type.",
        places: &[at("* GET /*", "header x-content-type-options", "nosniff", "-")],
    },
    Intended {
        reason: "One series that can't be read costs that series alone (metrics-server drops the node), and blanks \
                 and further labels are read as the format has it.",
        places: &[
            at("*/nodes*", "body *s[fake-garbled]", "{*", "-"),
            at("*/nodes*", "body *s[fake-blank]", "{*", "-"),
            at("*/nodes*", "body *s[fake-labels]", "{*", "-"),
        ],
    },
    Intended {
        reason: "OpenMetrics is read as what it is, exemplars included.",
        places: &[
            at("*/nodes*", "body *s[fake-openmetrics]", "{*", "-"),
            at("*/nodes*", "body *s[fake-exemplars]", "{*", "-"),
            at("*/pods*", "body *s[edge-cases/exemplars]", "{*", "-"),
        ],
    },
    Intended {
        reason: "Swap is shown where the kubelet reports it; in tables it comes last, and in the wide form only.",
        places: &[
            at("* GET *", "body *usage/swap", "*", "-"),
            at("* GET *", "body /columnDefinitions[swap]", "{*", "-"),
            at("* GET *", "body /rows[*]/cells[4]", "*", "-"),
        ],
    },
    Intended {
        reason: "A node that was made anew under its name is another: no rate spans both (metrics-server shows one, of \
                 two machines' counters).",
        places: &[at("*/nodes*", "body *s[fake-replaced]", "-", "{*")],
    },
    Intended {
        reason: "A clock that was set forward needs a second sample (metrics-server shows the rate over the hour that \
                 never was).",
        places: &[at("*/pods*", "body *s[edge-cases/clock-forward]", "-", "{*")],
    },
    Intended {
        reason: "What is not a number is no measurement (metrics-server shows memory of 8 EiB).",
        places: &[at("*/nodes*", "body *s[fake-not-a-number]", "-", "{*")],
    },
    Intended {
        reason: "A failed scrape loses nothing: the last good sample is shown with its own time until it is too old.",
        places: &[at("*/nodes*", "body *s[fake-lost]", "{*", "-")],
    },
    Intended {
        reason: "Nor does a sample that is missing once: the next one is compared with the one before.",
        places: &[at("*/pods*", "body *s[edges/gap]", "{*", "-")],
    },
    Intended {
        reason: "A pod without a rate is left out (metrics-server shows it without containers, window 0s).",
        places: &[at("*/pods*", "body *s[edges/counter-fell]", "-", "{*")],
    },
    Intended {
        reason: "Of two samples of one time the first counts, as neither is newer.",
        places: &[
            at("*/pods*", "body *s[edges/repeated-time]/*/cpu", "\"99920063n\"", "*"),
            at("*/pods*", "body *s[edges/repeated-time]/cells*", "\"99920063n\"", "*"),
        ],
    },
];
