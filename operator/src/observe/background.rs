//! Work that runs beside the loop: what takes long does not delay a reconcile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Changes;

/// At most one running task. A round waits for its result for a moment and takes it in a later round if it is slower; the
/// end of such a task wakes the loop.
#[derive(Debug)]
pub(super) struct Background<T> {
    task: Option<JoinHandle<T>>,
    /// Whether a round gave up waiting for the task.
    is_late: Arc<AtomicBool>,
}

impl<T> Default for Background<T> {
    fn default() -> Self {
        Self { task: None, is_late: Arc::default() }
    }
}

impl<T: Send + 'static> Background<T> {
    /// Whether a task was started whose result was not taken yet.
    pub(super) const fn is_started(&self) -> bool {
        self.task.is_some()
    }

    /// Starts a task, and stops the one before.
    pub(super) fn start(&mut self, changes: Arc<Changes>, work: impl Future<Output = T> + Send + 'static) {
        self.stop();
        let is_late = Arc::<AtomicBool>::default();
        self.is_late = is_late.clone();
        self.task = Some(tokio::spawn(async move {
            let result = work.await;
            if is_late.load(Ordering::Relaxed) {
                changes.wake();
            }
            result
        }));
    }

    /// Returns the result if the task ends within `patience`.
    pub(super) async fn result(&mut self, patience: Duration) -> Option<T> {
        let task = self.task.as_mut()?;
        let Ok(ended) = tokio::time::timeout(patience, task).await else {
            self.is_late.store(true, Ordering::Relaxed);
            return None;
        };
        self.task = None;
        ended.ok()
    }

    /// Stops the task.
    pub(super) fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn after(duration: Duration) -> u8 {
        sleep(duration).await;
        7
    }

    /// Returns whether the loop is woken within a moment.
    async fn is_woken(changes: &Changes) -> bool {
        timeout(Duration::from_millis(1), changes.changed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_result_is_taken_in_the_same_round_and_wakes_nobody() {
        let changes = Arc::new(Changes::default());
        let mut background = Background::default();
        background.start(changes.clone(), after(SECOND / 2));
        assert_eq!(background.result(SECOND).await, Some(7));
        assert!(!background.is_started());
        assert!(!is_woken(&changes).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_result_wakes_the_loop_and_is_taken_later() {
        let changes = Arc::new(Changes::default());
        let mut background = Background::default();
        background.start(changes.clone(), after(SECOND * 5));
        assert_eq!(background.result(SECOND).await, None);
        assert!(background.is_started());
        assert!(!is_woken(&changes).await);
        sleep(SECOND * 5).await;
        assert!(is_woken(&changes).await);
        assert_eq!(background.result(Duration::ZERO).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_ends_with_its_owner() {
        let flag = Arc::<AtomicBool>::default();
        let set = flag.clone();
        let mut background = Background::default();
        background.start(Arc::default(), async move {
            sleep(SECOND).await;
            set.store(true, Ordering::Relaxed);
        });
        drop(background);
        sleep(SECOND * 2).await;
        assert!(!flag.load(Ordering::Relaxed));
    }
}
