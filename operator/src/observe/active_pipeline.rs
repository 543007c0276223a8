//! Which of several MetricsPipelines is served.

use crds::FINALIZER;

use super::Pipeline;

/// The MetricsPipelines, sorted by what happens to them.
#[derive(Debug, Default)]
pub struct Serving<'a> {
    /// The one that is served, or dismantled.
    pub served: Option<&'a Pipeline>,
    /// Those that wait for it to go.
    pub conflicting: Vec<&'a Pipeline>,
    /// Those that can't be read.
    pub malformed: Vec<&'a Pipeline>,
    /// Those that are being deleted, were served once, and own nothing any more.
    pub released: Vec<&'a Pipeline>,
}

/// The oldest that can be read is served (by name among those of the same second). One that is being deleted
/// is still the one until all that it owns is gone; then the next takes over.
#[must_use]
pub fn serving(pipelines: &[Pipeline]) -> Serving<'_> {
    let holds = |pipeline: &Pipeline| pipeline.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let mut by_age: Vec<&Pipeline> = pipelines
        .iter()
        // Without our finalizer it owns nothing: either it never did, or somebody else's finalizer holds it.
        .filter(|pipeline| !pipeline.deleting || holds(pipeline))
        .collect();
    by_age.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let served = by_age
        .iter()
        .copied()
        .find(|pipeline| pipeline.spec.is_ok())
        .or_else(|| by_age.iter().copied().find(|pipeline| pipeline.deleting));
    let mut serving = Serving { served, ..Serving::default() };
    for pipeline in by_age {
        if served.is_some_and(|served| served.uid == pipeline.uid) {
            continue;
        }
        let list = match (pipeline.deleting, &pipeline.spec) {
            (true, _) => &mut serving.released,
            (false, Ok(_)) => &mut serving.conflicting,
            (false, Err(_)) => &mut serving.malformed,
        };
        list.push(pipeline);
    }
    serving
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn pipeline(name: &str, second: i64) -> Pipeline {
        Pipeline {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            resource_version: "1".to_owned(),
            generation: 1,
            created: Some(Timestamp::from_second(second).expect("a time")),
            deleting: false,
            finalizers: Vec::new(),
            spec: Ok(crds::MetricsPipelineSpec::default()),
            status: crds::MetricsPipelineStatus::default(),
        }
    }

    fn names(pipelines: &[&Pipeline]) -> Vec<String> {
        pipelines.iter().map(|pipeline| pipeline.name.clone()).collect()
    }

    #[test]
    fn the_oldest_is_served_and_then_the_first_by_name() {
        let pipelines = [pipeline("c", 1), pipeline("b", 0), pipeline("a", 1)];
        let serving = serving(&pipelines);
        assert_eq!(serving.served.expect("one").name, "b");
        assert_eq!(names(&serving.conflicting), ["a", "c"]);
    }

    #[test]
    fn one_that_is_being_deleted_stays_until_it_is_released() {
        let mut pipelines = [pipeline("old", 0), pipeline("new", 1)];
        pipelines[0].deleting = true;
        pipelines[0].finalizers = vec![FINALIZER.to_owned()];
        assert_eq!(serving(&pipelines).served.expect("one").name, "old");
        pipelines[0].finalizers = vec!["somebody.else/holds-it".to_owned()];
        assert_eq!(serving(&pipelines).served.expect("one").name, "new");
    }

    #[test]
    fn a_malformed_one_stops_nobody() {
        let mut pipelines = [pipeline("broken", 0), pipeline("good", 1)];
        pipelines[0].spec = Err("metricsCore.replicas: not a number".to_owned());
        let sorted = serving(&pipelines);
        assert_eq!(sorted.served.expect("one").name, "good");
        assert_eq!(names(&sorted.malformed), ["broken"]);

        pipelines[0].deleting = true;
        pipelines[0].finalizers = vec![FINALIZER.to_owned()];
        assert_eq!(names(&serving(&pipelines).released), ["broken"]);
        // Alone, it is dismantled: what it owns must not stay.
        assert_eq!(serving(&pipelines[..1]).served.expect("one").name, "broken");
    }
}
