//! Every intended difference between metrics-core and metrics-server, with its reason. Any other difference fails the
//! comparison, and so does one that is listed here and does not occur.

/// Differences that have the same reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intended {
    /// The reason.
    pub reason: &'static str,
    /// The places where the responses differ.
    pub places: &'static [Place],
}

/// A place where the responses may differ. In the patterns `*` matches any text, also the empty one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
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
pub(super) const INTENDED: &[Intended] = &[
    Intended {
        reason: "metrics-core also serves metrics.k8s.io/v1, as the preferred version.",
        places: &[
            at("* GET /apis*", "body */versions[metrics.k8s.io/v1]", "{*", "-"),
            at("* GET /apis*", "body */preferredVersion/*", "\"*v1\"", "\"*v1beta1\""),
            at("* GET /apis *", "body /items[metrics.k8s.io]/versions[v1]", "{*", "-"),
            at("* GET /openapi/v3*", "body [apis/metrics.k8s.io/v1]", "*", "-"),
            at("*", "body /paths[/apis/metrics.k8s.io/v1]", "*", "-"),
        ],
    },
    Intended {
        reason: "metrics-core still serves aggregated discovery v2beta1, for API servers before 1.30.",
        places: &[at("* GET /apis [Accept: *v=v2beta1;as=APIGroupDiscoveryList]", "status", "200", "406 *")],
    },
    Intended {
        reason: "Aggregated discovery has the group and version of each kind.",
        places: &[
            at("* GET /apis *", "body *]/responseKind/group", "\"metrics.k8s.io\"", "*"),
            at("* GET /apis *", "body *]/responseKind/version", "\"v1beta1\"", "*"),
        ],
    },
    Intended {
        reason: "/apis has its apiVersion, and no server address, because clients do not use it.",
        places: &[
            at("* GET /apis*", "body /apiVersion", "\"v1\"", "*"),
            at("* GET /apis*", "body /groups[metrics.k8s.io]/serverAddressByClientCIDRs", "-", "[*"),
        ],
    },
    Intended {
        reason: "metrics-core implements limit and continue.",
        places: &[
            at("* GET *limit=1 *", "body /items[*]", "-", "{*"),
            at("* GET *limit=1 *", "body /metadata/continue", "\"*", "-"),
            at("* GET *continue=nonsense*", "status", "400 *", "200"),
        ],
    },
    Intended {
        reason: "A resourceVersion that can't be parsed, or can't be honoured exactly, is rejected, as by kube-apiserver.",
        places: &[
            at("* GET *?resourceVersion=nonsense *", "status", "400 *", "200"),
            at("* GET *?resourceVersionMatch=Exact&resourceVersion=5 *", "status", "410 *", "200"),
            at("* GET *?limit=1&resourceVersion=5 *", "status", "410 *", "200"),
        ],
    },
    Intended { reason: "Containers are sorted by name.", places: &[at("*", "order *containers", "*", "*")] },
    Intended {
        reason: "An empty list has an empty array in each representation, and a table its columns.",
        places: &[
            at("*/namespaces/none-such/pods *", "body /items", "[]", "null"),
            at("* GET *", "body /rows", "[]", "null"),
            at("* GET *", "body /columnDefinitions", "[{*", "null"),
        ],
    },
    Intended {
        reason: "details.causes names the invalid parameter.",
        places: &[at("* GET *", "body /details", "{\"causes\":[*", "-")],
    },
    Intended {
        reason: "Error messages use the terms of the API instead of Go types and regular expressions.",
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
        reason: "Accept is parsed by RFC 9110: type ranges, upper case and q=0 have their meaning.",
        places: &[
            at("*[Accept: application/\\*]", "status", "*", "406 *"),
            at("*[Accept: APPLICATION/JSON]", "status", "*", "406 *"),
            at("*[Accept: application/json;q=0]", "status", "406 *", "*"),
        ],
    },
    Intended {
        reason: "An unsupported representation is rejected before the object is read.",
        places: &[at("*as=PartialObjectMetadataList;*", "status", "406 you requested *", "404 *")],
    },
    Intended {
        reason: "Vary names Accept-Encoding also on short lists (RFC 9110), because long ones are compressed.",
        places: &[at("*", "header vary", "Accept-Encoding", "-")],
    },
    Intended {
        reason: "405 has an Allow header (RFC 9110); /openapi/v2 accepts only GET, and /version also HEAD.",
        places: &[
            at("*", "header allow", "GET", "-"),
            at("* /openapi/v2", "status", "405 *", "200"),
            at("* HEAD /version", "status", "200", "405"),
        ],
    },
    Intended {
        reason: "A selector or path with an empty or invalid part is rejected, not interpreted as another one.",
        places: &[
            at("*fieldSelector== *", "status", "400 *", "200"),
            at("*labelSelector=%00 *", "status", "400 *", "200"),
            at("*//nodes *", "body /*", "*", "*"),
            at("*//nodes *", "layout", "indented", "dense"),
            at("*/namespaces//pods *", "status", "404", "200"),
        ],
    },
    Intended {
        reason: "Impersonation is forbidden for every user: only kube-apiserver can authorize it.",
        places: &[
            at("* [Impersonate-User: *]", "body /message", "\"forbidden: impersonation *", "*"),
            at("* [Impersonate-User: *]", "body /details", "-", "{*"),
        ],
    },
    Intended {
        reason: "The timeout parameter is ignored, because no request takes long.",
        places: &[at("*timeout=nonsense *", "status", "200", "400 *")],
    },
    Intended {
        reason: "OpenAPI describes the served resources, as JSON, but not discovery and /version; a missing \
                 document returns 404.",
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
        reason: "Version, health checks and paths differ by program; metrics-core serves no debug endpoints.",
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
        reason: "/metrics has more families with the same prefix; its content type is plain text 0.0.4.",
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
        reason: "Browsers must not interpret plain text as another type.",
        places: &[at("* GET /*", "header x-content-type-options", "nosniff", "-")],
    },
    Intended {
        reason: "A series that cannot be parsed is skipped alone (metrics-server drops the node); whitespace and \
                 further labels are parsed by the format.",
        places: &[
            at("*/nodes*", "body *s[fake-garbled]", "{*", "-"),
            at("*/nodes*", "body *s[fake-blank]", "{*", "-"),
            at("*/nodes*", "body *s[fake-labels]", "{*", "-"),
        ],
    },
    Intended {
        reason: "OpenMetrics is parsed as OpenMetrics, including exemplars.",
        places: &[
            at("*/nodes*", "body *s[fake-openmetrics]", "{*", "-"),
            at("*/nodes*", "body *s[fake-exemplars]", "{*", "-"),
            at("*/pods*", "body *s[edge-cases/exemplars]", "{*", "-"),
        ],
    },
    Intended {
        reason: "Swap is served if the kubelet reports it; in tables it is the last column, and only in wide output.",
        places: &[
            at("* GET *", "body *usage/swap", "*", "-"),
            at("* GET *", "body /columnDefinitions[swap]", "{*", "-"),
            at("* GET *", "body /rows[*]/cells[4]", "*", "-"),
        ],
    },
    Intended {
        reason: "A recreated node is another node: no rate spans both (metrics-server computes one from the counters \
                 of two machines).",
        places: &[at("*/nodes*", "body *s[fake-replaced]", "-", "{*")],
    },
    Intended {
        reason: "After a clock was set forward, a second sample is needed (metrics-server computes the rate over an \
                 hour that did not pass).",
        places: &[at("*/pods*", "body *s[edge-cases/clock-forward]", "-", "{*")],
    },
    Intended {
        reason: "NaN is not a measurement (metrics-server serves memory of 8 EiB).",
        places: &[at("*/nodes*", "body *s[fake-not-a-number]", "-", "{*")],
    },
    Intended {
        reason: "After a failed scrape, the last good sample is served with its own timestamp until it is too old.",
        places: &[at("*/nodes*", "body *s[fake-lost]", "{*", "-")],
    },
    Intended {
        reason: "After a missing sample, the rate spans the samples before and after it.",
        places: &[at("*/pods*", "body *s[edges/gap]", "{*", "-")],
    },
    Intended {
        reason: "A pod without a rate is omitted (metrics-server serves it without containers, window 0s).",
        places: &[at("*/pods*", "body *s[edges/counter-fell]", "-", "{*")],
    },
    Intended {
        reason: "Of two samples with one timestamp, the first is used.",
        places: &[
            at("*/pods*", "body *s[edges/repeated-time]/*/cpu", "\"99920063n\"", "*"),
            at("*/pods*", "body *s[edges/repeated-time]/cells*", "\"99920063n\"", "*"),
        ],
    },
];
