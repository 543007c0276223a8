//! Which of several MetricsPipelines is active.

use crds::FINALIZER;

use super::Pipeline;

/// The MetricsPipelines, sorted by what happens to them.
#[derive(Debug, Default)]
pub struct ActivePipeline<'a> {
    /// The one that the operator installs, or tears down.
    pub active: Option<&'a Pipeline>,
    /// Those that conflict with it and wait until it is gone.
    pub conflicting: Vec<&'a Pipeline>,
    /// Those whose spec can't be read.
    pub malformed: Vec<&'a Pipeline>,
    /// Those that are being deleted, were active once, and own nothing any more.
    pub released: Vec<&'a Pipeline>,
}

/// Selects the oldest MetricsPipeline that can be read (the first by name among those of the same second). One that is
/// being deleted stays active until everything that it owns is gone; then the next takes over.
#[must_use]
pub fn select_active(pipelines: &[Pipeline]) -> ActivePipeline<'_> {
    let has_finalizer =
        |pipeline: &Pipeline| pipeline.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let mut by_age: Vec<&Pipeline> = pipelines
        .iter()
        // Without our finalizer it owns nothing: either it never did, or a foreign finalizer keeps it.
        .filter(|pipeline| !pipeline.deleting || has_finalizer(pipeline))
        .collect();
    by_age.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let active = by_age
        .iter()
        .copied()
        .find(|pipeline| pipeline.spec.is_ok())
        .or_else(|| by_age.iter().copied().find(|pipeline| pipeline.deleting));
    let mut selected = ActivePipeline { active, ..ActivePipeline::default() };
    for pipeline in by_age {
        if active.is_some_and(|active| active.uid == pipeline.uid) {
            continue;
        }
        let list = match (pipeline.deleting, &pipeline.spec) {
            (true, _) => &mut selected.released,
            (false, Ok(_)) => &mut selected.conflicting,
            (false, Err(_)) => &mut selected.malformed,
        };
        list.push(pipeline);
    }
    selected
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn pipeline(name: &str, second: i64) -> Pipeline {
        Pipeline {
            created: Some(Timestamp::from_second(second).expect("a time")),
            ..Pipeline::for_test(name, crds::MetricsPipelineSpec::default())
        }
    }

    fn names(pipelines: &[&Pipeline]) -> Vec<String> {
        pipelines.iter().map(|pipeline| pipeline.name.clone()).collect()
    }

    #[test]
    fn the_oldest_is_active_and_then_the_first_by_name() {
        let pipelines = [pipeline("c", 1), pipeline("b", 0), pipeline("a", 1)];
        let selected = select_active(&pipelines);
        assert_eq!(selected.active.expect("one").name, "b");
        assert_eq!(names(&selected.conflicting), ["a", "c"]);
    }

    #[test]
    fn a_deleted_one_stays_active_until_its_finalizer_is_removed() {
        let mut pipelines = [pipeline("old", 0), pipeline("new", 1)];
        pipelines[0].deleting = true;
        pipelines[0].finalizers = vec![FINALIZER.to_owned()];
        assert_eq!(select_active(&pipelines).active.expect("one").name, "old");
        pipelines[0].finalizers = vec!["example.com/hold".to_owned()];
        assert_eq!(select_active(&pipelines).active.expect("one").name, "new");
    }

    #[test]
    fn a_malformed_one_blocks_no_other() {
        let mut pipelines = [pipeline("broken", 0), pipeline("good", 1)];
        pipelines[0].spec = Err("metricsCore.replicas: not a number".to_owned());
        let sorted = select_active(&pipelines);
        assert_eq!(sorted.active.expect("one").name, "good");
        assert_eq!(names(&sorted.malformed), ["broken"]);

        pipelines[0].deleting = true;
        pipelines[0].finalizers = vec![FINALIZER.to_owned()];
        assert_eq!(names(&select_active(&pipelines).released), ["broken"]);
        // Alone it is active, so that its teardown removes what it owns.
        assert_eq!(select_active(&pipelines[..1]).active.expect("one").name, "broken");
    }
}
