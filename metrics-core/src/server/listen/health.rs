//! `/livez`, `/readyz` and `/healthz`, with the response texts of k8s.io/apiserver.

use std::fmt::Write;

use http::{Response, StatusCode};

use super::BoxedBody;
use super::body::text;
use crate::telemetry::LogLimiter;

type CheckFunction = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// A named check.
struct Check {
    name: &'static str,
    run: CheckFunction,
    live: bool,
}

/// All health checks.
#[derive(Default)]
pub struct Health {
    checks: Vec<Check>,
    log: LogLimiter<&'static str>,
}

impl Health {
    /// Returns the check `ping` alone, which passes whenever the server responds.
    #[must_use]
    pub fn new() -> Self {
        Self::default().live("ping", || Ok(()))
    }

    /// Adds a liveness check, whose failure a restart can repair. It is also a readiness check.
    #[must_use]
    pub(crate) fn live(
        mut self,
        name: &'static str,
        run: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Check { name, run: Box::new(run), live: true });
        self
    }

    /// Adds a readiness check.
    #[must_use]
    pub(crate) fn ready(
        mut self,
        name: &'static str,
        run: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Check { name, run: Box::new(run), live: false });
        self
    }

    /// Returns the response, if `path` is a health endpoint.
    pub(crate) fn respond(&self, path: &str, query: Option<&str>) -> Option<Response<BoxedBody>> {
        let mut parts = path.strip_prefix('/')?.splitn(2, '/');
        let group = match parts.next()? {
            "livez" => "livez",
            "readyz" => "readyz",
            "healthz" => "healthz",
            _ => return None,
        };
        let checks = self.checks.iter().filter(|check| check.live || group == "readyz");
        match parts.next() {
            None => Some(self.all(group, checks, &HealthQuery::parse(query.unwrap_or_default()))),
            Some(name) => checks.into_iter().find(|check| check.name == name).map(one),
        }
    }

    fn all<'a>(
        &self,
        group: &str,
        checks: impl Iterator<Item = &'a Check>,
        query: &HealthQuery,
    ) -> Response<BoxedBody> {
        let mut unmatched: Vec<&str> = query.excluded.iter().map(String::as_str).collect();
        let (mut lines, mut failed) = (String::new(), false);
        for check in checks {
            let name = check.name;
            if query.excluded.iter().any(|excluded| excluded == name) {
                unmatched.retain(|excluded| *excluded != name);
                let _ = writeln!(lines, "[+]{name} excluded: ok");
                continue;
            }
            // The reason is only in the log and in the response of the single check, which needs authorization.
            if let Err(why) = (check.run)() {
                failed = true;
                let _ = writeln!(lines, "[-]{name} failed: reason withheld");
                if let Some(more) = self.log.due(name) {
                    tracing::info!(check = name, since_last = more, "{group} check failed: {why}");
                }
            } else {
                let _ = writeln!(lines, "[+]{name} ok");
            }
        }
        if !unmatched.is_empty() {
            let names: Vec<_> = unmatched.iter().map(|name| format!("{name:?}")).collect();
            let _ = writeln!(
                lines,
                "warn: some health checks cannot be excluded: no matches for {}",
                names.join(",")
            );
        }
        match (failed, query.verbose) {
            (true, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{group} check failed\n")),
            (false, true) => text(StatusCode::OK, format!("{lines}{group} check passed\n")),
            (false, false) => text(StatusCode::OK, "ok"),
        }
    }
}

fn one(check: &Check) -> Response<BoxedBody> {
    match (check.run)() {
        Ok(()) => text(StatusCode::OK, "ok"),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
    }
}

/// `?verbose` and `?exclude=NAME`.
#[derive(Default)]
struct HealthQuery {
    verbose: bool,
    excluded: Vec<String>,
}

impl HealthQuery {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "verbose" => parsed.verbose = true,
                // Bounds what the response repeats. Names of checks need no escapes.
                "exclude" if parsed.excluded.len() < 32 => {
                    parsed.excluded.push(value.chars().take(64).collect());
                }
                _ => {}
            }
        }
        parsed.excluded.sort();
        parsed.excluded.dedup();
        parsed
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use http_body_util::BodyExt;

    use super::Health;

    fn get(health: &Health, path: &str, query: Option<&str>) -> Option<(u16, String)> {
        let response = health.respond(path, query)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
        Some((status, String::from_utf8(body.to_vec()).unwrap()))
    }

    #[test]
    fn responses_equal_those_of_k8s_io_apiserver() {
        let health = Health::new()
            .live("scrape-loop", || Ok(()))
            .ready("directory-synced", || Err("nodes are missing".into()));
        let response = |status: u16, text: &str| Some((status, text.to_owned()));
        assert_eq!(get(&health, "/livez", None), response(200, "ok"));
        assert_eq!(
            get(&health, "/livez", Some("verbose")),
            response(200, "[+]ping ok\n[+]scrape-loop ok\nlivez check passed\n")
        );
        assert_eq!(
            get(&health, "/readyz", None),
            response(
                500,
                "[+]ping ok\n[+]scrape-loop ok\n[-]directory-synced failed: reason withheld\nreadyz check failed\n"
            )
        );
        assert_eq!(
            get(&health, "/readyz", Some("verbose&exclude=directory-synced&exclude=x")),
            response(
                200,
                "[+]ping ok\n[+]scrape-loop ok\n[+]directory-synced excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nreadyz check passed\n"
            )
        );
        assert_eq!(
            get(&health, "/readyz/directory-synced", None),
            response(500, "internal server error: nodes are missing\n")
        );
        assert_eq!(get(&health, "/healthz/ping", None), response(200, "ok"));
        assert_eq!(get(&health, "/livez/directory-synced", None), None, "not a liveness check");
        assert_eq!(get(&health, "/apis", None), None);
    }
}
