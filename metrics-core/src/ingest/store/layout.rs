//! The names of the containers that a node runs, shared between snapshots while they do not change.

use std::collections::HashMap;
use std::ops::Range;

/// Pods ordered by namespace and name, and their containers by name. All names are in one allocation.
#[derive(Debug, Default)]
pub(super) struct NodeLayout {
    text: Box<str>,
    pods: Box<[PodNames]>,
    containers: Box<[ContainerName]>,
    /// Container indices in the order of the body. The next body has the same order unless a container was added or
    /// removed.
    order: Box<[u32]>,
    /// Whether no name contains a character that is escaped in a label value.
    is_plain: bool,
}

/// The position of a name in the text: its start, and its length in the low bits.
#[derive(Clone, Copy, Debug)]
struct Span(u32);

/// The longest name that Kubernetes allows (RFC 1123 subdomain); it fits in the length bits.
pub(super) const MAX_NAME: usize = 253;
const LENGTH_BITS: u32 = 8;

#[derive(Debug)]
struct PodNames {
    namespace: Span,
    name: Span,
    first: u32,
    /// When the node first reported the pod.
    appeared_ms: u64,
}

#[derive(Debug)]
struct ContainerName {
    name: Span,
    pod: u32,
}

/// The names that identify a container, ordered as in the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ContainerNames<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) container: &'a str,
}

impl NodeLayout {
    /// Returns the layout of containers that are ordered by name without duplicates. `body_order` contains indices
    /// into them. `appeared_ms` returns when the node first reported a pod.
    pub(super) fn new(
        ordered: &[ContainerNames<'_>],
        body_order: Box<[u32]>,
        appeared_ms: impl Fn((&str, &str)) -> u64,
    ) -> Self {
        let mut text = String::new();
        let mut pods: Vec<PodNames> = Vec::new();
        let mut containers = Vec::with_capacity(ordered.len());
        // Similar pods have containers of the same names; each name is stored once.
        let mut written: HashMap<&str, Span> = HashMap::new();
        let mut last: Option<ContainerNames<'_>> = None;
        for names in ordered {
            let same_namespace = last.is_some_and(|last| last.namespace == names.namespace);
            if !(same_namespace && last.is_some_and(|last| last.pod == names.pod)) {
                let namespace = match pods.last() {
                    Some(pod) if same_namespace => pod.namespace,
                    _ => append(&mut text, names.namespace),
                };
                let name = append(&mut text, names.pod);
                let appeared_ms = appeared_ms((names.namespace, names.pod));
                pods.push(PodNames { namespace, name, first: index(containers.len()), appeared_ms });
            }
            let name = *written.entry(names.container).or_insert_with(|| append(&mut text, names.container));
            containers.push(ContainerName { name, pod: index(pods.len() - 1) });
            last = Some(*names);
        }
        Self {
            is_plain: !text.contains(['"', '\\', '\n']),
            text: text.into_boxed_str(),
            pods: pods.into_boxed_slice(),
            containers: containers.into_boxed_slice(),
            order: body_order,
        }
    }

    /// Returns the memory of this layout in bytes.
    pub(super) fn bytes(&self) -> usize {
        let Self { text, pods, containers, order, is_plain: _ } = self;
        text.len() + size_of_val(&**pods) + size_of_val(&**containers) + size_of_val(&**order)
    }

    /// Returns the number of pods.
    pub(super) fn pods(&self) -> usize {
        self.pods.len()
    }

    /// Returns the number of containers.
    pub(super) fn containers(&self) -> usize {
        self.containers.len()
    }

    /// Returns namespace and name of the pod in `row`.
    pub(super) fn pod(&self, row: usize) -> (&str, &str) {
        let pod = &self.pods[row];
        (self.text(pod.namespace), self.text(pod.name))
    }

    /// Returns when the node first reported the pod in `row`, without interruption since.
    pub(super) fn appeared_ms(&self, row: usize) -> u64 {
        self.pods[row].appeared_ms
    }

    /// Returns the row of a pod.
    pub(super) fn row(&self, (namespace, name): (&str, &str)) -> Option<usize> {
        self.find_pod((namespace.as_bytes(), name.as_bytes()))
    }

    /// Returns the pods of `other` that this layout does not contain.
    pub(super) fn missing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let rows = (0..other.pods()).map(|row| other.pod(row));
        rows.filter(|key| self.row(*key).is_none())
    }

    /// Returns the rows of a namespace, or of a pod in it, or all rows.
    pub(super) fn rows(&self, namespace: Option<&str>, name: Option<&str>) -> Range<usize> {
        match (namespace, name) {
            (None, _) => 0..self.pods(),
            (Some(namespace), Some(name)) => self.row((namespace, name)).map_or(0..0, |row| row..row + 1),
            (Some(namespace), None) => {
                let start = self.pods.partition_point(|pod| self.text(pod.namespace) < namespace);
                let length = self.pods[start..].partition_point(|pod| self.text(pod.namespace) == namespace);
                start..start + length
            }
        }
    }

    fn find_pod(&self, key: (&[u8], &[u8])) -> Option<usize> {
        self.pods
            .binary_search_by(|pod| {
                (self.text(pod.namespace).as_bytes(), self.text(pod.name).as_bytes()).cmp(&key)
            })
            .ok()
    }

    /// Returns the container indices of the pod in `row`.
    pub(super) fn containers_of(&self, row: usize) -> Range<usize> {
        let end = self.pods.get(row + 1).map_or(self.containers.len(), |pod| pod.first as usize);
        self.pods[row].first as usize..end
    }

    /// Returns the container's own name.
    pub(super) fn container(&self, at: usize) -> &str {
        self.text(self.containers[at].name)
    }

    /// Returns the names that identify a container.
    pub(super) fn names(&self, at: usize) -> ContainerNames<'_> {
        let (namespace, pod) = self.pod(self.containers[at].pod as usize);
        ContainerNames { namespace, pod, container: self.container(at) }
    }

    /// Returns the container that the last body had at position `cursor`, if its names need no escapes.
    pub(super) fn expected_at(&self, cursor: usize) -> Option<usize> {
        if self.is_plain { self.order.get(cursor).map(|at| *at as usize) } else { None }
    }

    /// Finds a container by its names. `cursor` is the position in body order where it is expected; a hit there
    /// moves the cursor on.
    pub(super) fn find(&self, names: [&[u8]; 3], cursor: &mut usize) -> Option<usize> {
        /// The maximum number of removed containers between two others before a binary search is cheaper.
        const LOOKAHEAD: usize = 4;
        let expected = self.order.get(*cursor..).unwrap_or_default();
        for (ahead, at) in expected.iter().take(LOOKAHEAD).enumerate() {
            let at = *at as usize;
            if self.name_bytes(at) == names {
                *cursor += ahead + 1;
                return Some(at);
            }
        }
        let [namespace, pod, container] = names;
        let row = self.find_pod((namespace, pod))?;
        // A binary search, because the kubelet controls how many containers a pod has.
        let of_pod = self.containers_of(row);
        let found = self.containers[of_pod.clone()]
            .binary_search_by(|other| self.text(other.name).as_bytes().cmp(container));
        found.ok().map(|at| of_pod.start + at)
    }

    /// Returns namespace, pod and container as bytes.
    pub(super) fn name_bytes(&self, at: usize) -> [&[u8]; 3] {
        let ContainerNames { namespace, pod, container } = self.names(at);
        [namespace.as_bytes(), pod.as_bytes(), container.as_bytes()]
    }

    fn text(&self, span: Span) -> &str {
        let start = (span.0 >> LENGTH_BITS) as usize;
        let length = (span.0 & ((1 << LENGTH_BITS) - 1)) as usize;
        &self.text[start..start + length]
    }
}

/// Appends a name. A name that does not fit, which the caller's limits rule out, becomes empty.
fn append(text: &mut String, name: &str) -> Span {
    let start = index(text.len());
    if name.len() > MAX_NAME || start >> (u32::BITS - LENGTH_BITS) != 0 {
        return Span(0);
    }
    text.push_str(name);
    Span(start << LENGTH_BITS | index(name.len()))
}

/// Saturates beyond the caller's limits on the number of containers and the length of names.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
