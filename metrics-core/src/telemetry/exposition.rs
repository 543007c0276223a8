//! The exposition of metrics: OpenMetrics 1.0, or the Prometheus text format 0.0.4.
//!
//! The text has some megabytes in a large cluster. It is written in chunks within the memory budget, and requests that
//! arrive together share one rendering.

mod text_format;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::text_format::TextFormat;
use super::SharedRegistry;
use crate::memory::{MemoryBudget, MemoryClass, Reservation, keep_until_sent};

/// The content type of OpenMetrics.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of the Prometheus text format.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The size of a chunk.
const CHUNK: usize = 128 * 1024;

/// A rendering that is still being sent serves requests for this time.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Returns whether an Accept header lists OpenMetrics, as that of Prometheus does.
#[must_use]
pub(crate) fn accepts_openmetrics(accept: &str) -> bool {
    accept.split(',').any(|range| range.trim().split(';').next() == Some("application/openmetrics-text"))
}

/// Renders the metrics of a registry.
pub(crate) struct Exposition {
    registry: SharedRegistry,
    budget: Arc<MemoryBudget>,
    /// The last rendering of each format, while it is being sent.
    last: [Mutex<LastRendering>; 2],
}

/// Why the metrics were not rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenderError {
    /// Other renderings, not yet sent, hold the memory.
    #[error("the memory for the metrics is in use")]
    Memory,
    /// A metric can't be encoded.
    #[error("a metric can't be encoded")]
    Encode,
}

/// All metrics at one moment.
struct Rendering {
    chunks: Vec<Bytes>,
    _memory: Reservation,
}

/// When a rendering was made, and the rendering while it is being sent.
type LastRendering = Option<(Instant, Weak<Rendering>)>;

/// The body of a response with all metrics.
pub(crate) struct ExpositionBody {
    chunks: VecDeque<Bytes>,
    rendering: Arc<Rendering>,
}

impl Exposition {
    /// Renders `registry`, and reserves memory from `budget` until the text is sent.
    pub(crate) fn new(registry: SharedRegistry, budget: Arc<MemoryBudget>) -> Self {
        Self { registry, budget, last: Default::default() }
    }

    /// Returns all metrics. Requests within a second share the text while it is being sent to one of them.
    pub(crate) fn render(&self, openmetrics: bool) -> Result<ExpositionBody, RenderError> {
        // Held while the text is rendered: others wait for it instead of rendering it, too.
        let mut last = self.last[usize::from(openmetrics)].lock();
        let known = last.as_ref().filter(|(rendered, _)| rendered.elapsed() < SHARED_FOR);
        if let Some(rendering) = known.and_then(|(_, rendering)| rendering.upgrade()) {
            return Ok(ExpositionBody::new(rendering));
        }
        let mut chunks = ChunkWriter::new(self.budget.empty(MemoryClass::Exposition));
        let encoded = if openmetrics {
            prometheus_client::encoding::text::encode(&mut chunks, &self.registry)
        } else {
            let mut text = TextFormat::new(&mut chunks);
            prometheus_client::encoding::text::encode(&mut text, &self.registry).and_then(|()| text.finish())
        };
        let rendering = Arc::new(chunks.finish(encoded)?);
        *last = Some((Instant::now(), Arc::downgrade(&rendering)));
        Ok(ExpositionBody::new(rendering))
    }
}

/// Collects text in chunks, and reserves memory for each.
struct ChunkWriter {
    chunks: Vec<Bytes>,
    current: String,
    memory: Reservation,
    is_short: bool,
}

impl ChunkWriter {
    fn new(memory: Reservation) -> Self {
        Self { chunks: Vec::new(), current: String::new(), memory, is_short: false }
    }

    fn finish(mut self, encoded: std::fmt::Result) -> Result<Rendering, RenderError> {
        if self.is_short {
            return Err(RenderError::Memory);
        }
        encoded.map_err(|_| RenderError::Encode)?;
        self.current.shrink_to_fit();
        self.memory.release(CHUNK.saturating_sub(self.current.len()));
        self.chunks.push(self.current.into());
        Ok(Rendering { chunks: self.chunks, _memory: self.memory })
    }
}

impl Write for ChunkWriter {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.current.capacity() - self.current.len() < text.len() {
            if !self.memory.try_grow(CHUNK.max(text.len())) {
                self.is_short = true;
                return Err(std::fmt::Error);
            }
            let full = std::mem::replace(&mut self.current, String::with_capacity(CHUNK.max(text.len())));
            if !full.is_empty() {
                self.chunks.push(full.into());
            }
        }
        self.current.push_str(text);
        Ok(())
    }
}

impl ExpositionBody {
    fn new(rendering: Arc<Rendering>) -> Self {
        Self { chunks: rendering.chunks.iter().cloned().collect(), rendering }
    }
}

impl Body for ExpositionBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let rendering = self.rendering.clone();
        let chunk = self.chunks.pop_front().map(|chunk| keep_until_sent(chunk, rendering));
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use prometheus_client::encoding::EncodeLabelSet;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Registry;

    use super::{CHUNK, Exposition, ExpositionBody, RenderError, SHARED_FOR, accepts_openmetrics};
    use crate::memory::MemoryBudget;

    #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
    struct ByNumber {
        number: u32,
    }

    async fn text(body: ExpositionBody) -> String {
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn exposition(series: u32, memory: usize) -> (Arc<MemoryBudget>, Exposition) {
        let mut registry = Registry::default();
        let counters = Family::<ByNumber, Counter>::default();
        for number in 0..series {
            counters.get_or_create(&ByNumber { number }).inc();
        }
        registry.register("a", "Things", counters);
        registry.register("b", "The build", Info::new(vec![("version", "1")]));
        let budget = MemoryBudget::new(memory);
        (budget.clone(), Exposition::new(Arc::new(registry), budget))
    }

    #[tokio::test]
    async fn both_formats_name_metadata_after_the_series() {
        let (_, metrics) = exposition(1, 64 << 20);
        let openmetrics = text(metrics.render(true).unwrap()).await;
        assert!(
            openmetrics.contains("# TYPE a counter\na_total{number=\"0\"} 1\n")
                && openmetrics.ends_with("# EOF\n"),
            "{openmetrics}"
        );
        assert_eq!(
            text(metrics.render(false).unwrap()).await,
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{number=\"0\"} 1\n# HELP b_info The build.\n# TYPE b_info gauge\nb_info{version=\"1\"} 1\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_arrive_together_share_one_rendering() {
        let (budget, metrics) = exposition(20_000, 64 << 20);
        let first = metrics.render(false).unwrap();
        let reserved = budget.reserved();
        let length = text(metrics.render(false).unwrap()).await.len();
        assert!(length > 2 * CHUNK && reserved >= length && reserved < length + CHUNK, "{length} {reserved}");
        let unread: Vec<_> = (0..100).map(|_| metrics.render(false).unwrap()).collect();
        assert_eq!(budget.reserved(), reserved);
        tokio::time::advance(SHARED_FOR).await;
        let later = metrics.render(false).unwrap();
        assert!(budget.reserved() > reserved, "an old text is not served");
        drop((unread, later, first));
        assert_eq!(budget.reserved(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn texts_that_nobody_reads_stay_within_the_budget() {
        let (budget, metrics) = exposition(20_000, 8 << 20);
        let mut unread = Vec::new();
        let error = loop {
            match metrics.render(true) {
                Ok(body) => unread.push(body),
                Err(error) => break error,
            }
            assert!(unread.len() < 100);
            tokio::time::advance(SHARED_FOR + Duration::from_millis(1)).await;
        };
        assert_eq!(error, RenderError::Memory);
        assert!(budget.reserved() <= budget.total());
        drop(unread.pop());
        assert!(metrics.render(true).is_ok());
    }

    #[test]
    fn recognizes_the_accept_header_of_prometheus() {
        assert!(accepts_openmetrics("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3"));
        assert!(!accepts_openmetrics("text/plain;version=0.0.4, */*"));
    }
}
