//! Iterates over the selected rows of a resource, in batches.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::continue_token::ObjectKey;
use super::resource::{Resource, Row};
use super::sample_age::SampleAge;
use super::selector::{FieldSelector, LabelSelector};
use crate::model::labels::Labels;
use crate::model::rows::{ChangeQuery, NodeRow, Pick, PodRow, Rows, TwoPassReader};

/// The number of rows after which a batch ends, however few of them were selected, so that no call takes long.
const MAX_ROWS_PER_BATCH: usize = 4096;

/// Which rows a list or watch selects.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// The resource.
    pub(super) resource: Resource,
    /// One namespace, or all.
    pub(super) namespace: Option<String>,
    /// By label.
    pub(super) labels: LabelSelector,
    /// By name and namespace.
    pub(super) fields: FieldSelector,
}

impl Selection {
    /// Returns whether the selectors match an object.
    fn selectors_match(&self, (namespace, name): (&str, &str), labels: &Labels) -> bool {
        self.fields.matches(namespace, name) && self.labels.matches(labels)
    }

    /// Returns whether an object of any namespace is selected.
    pub(super) fn matches(&self, (namespace, name): (&str, &str), labels: &Labels) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.selectors_match((namespace, name), labels)
    }

    /// Returns the query for the changes of selected objects.
    pub(super) fn changes(&self, from: u64, (new_from, unknown_from): (u64, u64)) -> ChangeQuery<'_> {
        ChangeQuery {
            kind: self.resource.row_kind(),
            namespace: self.single_namespace(),
            name: self.fields.name(),
            from,
            new_from,
            unknown_from,
        }
    }

    /// Returns the namespace of all selected objects, if there is only one.
    fn single_namespace(&self) -> Option<&str> {
        match self.resource {
            Resource::Nodes => None,
            Resource::Pods => self.namespace.as_deref().or_else(|| self.fields.namespace()),
        }
    }
}

/// Finds the end of a page, one batch at a time.
pub(super) struct PageEndSearch {
    cursor: Cursor,
    limit: usize,
    count: usize,
    last: Option<ObjectKey>,
}

impl PageEndSearch {
    /// Searches another batch. Breaks once the end is known: with the key of the page's last row, or with `None` if no
    /// rows are selected after the page.
    pub(super) fn advance(&mut self) -> ControlFlow<Option<ObjectKey>> {
        let Self { cursor, limit, count, last } = self;
        cursor.advance(&mut |row| {
            *count += 1;
            if count == limit {
                *last = Some(ObjectKey::new(row.key()));
            }
            if count > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if count > limit {
            ControlFlow::Break(last.take())
        } else if cursor.finished {
            ControlFlow::Break(None)
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// A position among the rows of a selection.
pub(super) struct Cursor {
    rows: Arc<dyn Rows>,
    sample_age: SampleAge,
    selection: Selection,
    after: Option<ObjectKey>,
    until: Option<ObjectKey>,
    finished: bool,
    /// Set once rows are recorded for a second pass.
    recorder: Option<Box<dyn TwoPassReader>>,
}

impl Cursor {
    /// Creates a cursor before the first row after the key `after`.
    pub(super) fn new(
        rows: Arc<dyn Rows>,
        sample_age: SampleAge,
        selection: Selection,
        after: Option<ObjectKey>,
    ) -> Self {
        Self { rows, sample_age, selection, after, until: None, finished: false, recorder: None }
    }

    /// Returns whether all rows have been visited.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Records all rows that are visited from now on, for [`Self::replay`].
    pub(super) fn record(&mut self) {
        self.recorder.get_or_insert_with(|| self.rows.clone().two_pass_reader());
    }

    /// Returns how much memory the recorded rows take, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.recorder.as_ref().map_or(0, |recorder| recorder.kept_bytes())
    }

    /// Returns whether rows are recorded.
    pub(super) fn is_recording(&self) -> bool {
        self.recorder.is_some()
    }

    /// Visits the recorded rows, in order, until the visitor breaks. The next call continues after that row.
    pub(super) fn replay(&mut self, visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>) {
        let Some(recorder) = &mut self.recorder else { return };
        match self.selection.resource {
            Resource::Nodes => recorder.replay_nodes(&mut |row| visit(Row::Node(row))),
            Resource::Pods => recorder.replay_pods(&mut |row| visit(Row::Pod(row))),
        }
    }

    /// Ends after the row of this key, or where that row was if it no longer exists.
    pub(super) fn end_at(&mut self, key: ObjectKey) {
        self.until = Some(key);
    }

    /// Returns a search for the end of a page of `limit` rows. This cursor does not move.
    pub(super) fn page_end(&self, limit: usize) -> PageEndSearch {
        let cursor =
            Self::new(self.rows.clone(), self.sample_age.clone(), self.selection.clone(), self.after.clone());
        PageEndSearch { cursor, limit, count: 0, last: None }
    }

    /// Visits selected rows until the visitor breaks, the batch is complete, or there are no more rows. Rows that
    /// appear between two calls are visited if they order after the position.
    pub(super) fn advance(&mut self, visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>) {
        let rows = self.rows.clone();
        let after = self.after.take();
        let mut read = self.sample_age.read();
        let mut visit = |row: Row<'_>| {
            read.row(row.interval().0);
            visit(row)
        };
        // Both `pick` and the visitor record where they stopped. `pick` is ahead, so the visitor's stop, which is
        // recorded later, overrides it.
        let stopped_at = RefCell::new(None);
        let (selection, until) = (&self.selection, self.until.as_ref());
        let mut visited = 0;
        let mut pick = |key: (&str, &str), labels: &Labels| {
            if visited == MAX_ROWS_PER_BATCH || until.is_some_and(|until| key > until.parts()) {
                return Pick::End;
            }
            visited += 1;
            if visited == MAX_ROWS_PER_BATCH {
                *stopped_at.borrow_mut() = Some(ObjectKey::new(key));
            }
            if selection.selectors_match(key, labels) { Pick::Take } else { Pick::Skip }
        };
        let mut step = |row: Row<'_>| {
            let flow = visit(row);
            if flow.is_break() {
                *stopped_at.borrow_mut() = Some(ObjectKey::new(row.key()));
            }
            flow
        };
        let is_ahead = |namespace, name| after.as_ref().is_none_or(|after| after.parts() < (namespace, name));
        // A lookup by name would not be recorded.
        let name = selection.fields.name().filter(|_| self.recorder.is_none());
        match (selection.resource, selection.single_namespace(), name) {
            (Resource::Nodes, _, Some(name)) => {
                if is_ahead("", name) {
                    rows.node(name, &mut |row| {
                        if pick(("", row.name), row.labels) == Pick::Take {
                            let _ = visit(Row::Node(row));
                        }
                    });
                    stopped_at.take();
                }
            }
            (Resource::Pods, Some(namespace), Some(name)) => {
                if is_ahead(namespace, name) {
                    rows.pod(namespace, name, &mut |row| {
                        if pick((row.namespace, row.name), row.labels) == Pick::Take {
                            let _ = visit(Row::Pod(row));
                        }
                    });
                    stopped_at.take();
                }
            }
            (Resource::Nodes, ..) => {
                let after = after.as_ref().map(|key| key.name.as_str());
                let mut pick = |name: &str, labels: &Labels| pick(("", name), labels);
                let mut each = |row: &NodeRow<'_>| step(Row::Node(row));
                match &mut self.recorder {
                    Some(recorder) => recorder.nodes(after, &mut pick, &mut each),
                    None => rows.nodes(after, &mut pick, &mut each),
                }
            }
            (Resource::Pods, namespace, _) => {
                let after = after.as_ref().map(ObjectKey::parts);
                let mut each = |row: &PodRow<'_>| step(Row::Pod(row));
                match &mut self.recorder {
                    Some(recorder) => recorder.pods(namespace, after, &mut pick, &mut each),
                    None => rows.pods(namespace, after, &mut pick, &mut each),
                }
            }
        }
        let stopped_at = stopped_at.into_inner();
        self.finished = stopped_at.is_none();
        self.after = stopped_at;
    }
}
