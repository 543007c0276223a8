use std::cell::Cell;
use std::time::Duration;

use futures::FutureExt;
use kube::core::Status;
use tokio::time::{Instant, sleep};

use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{Api, PostParams};

use super::{MAX_CONCURRENT, NEXT_ATTEMPT, ReviewError, TIMEOUT, post_with_retries};
use crate::cluster::fake_apiserver::FakeApiServer;

fn failure(code: u16) -> kube::Error {
    kube::Error::Api(Box::new(Status { code, message: format!("code {code}"), ..Status::default() }))
}

#[tokio::test(start_paused = true)]
async fn retries_transient_errors_only() {
    let attempts = Cell::new(0);
    let start = Instant::now();
    let review = post_with_retries(|| {
        attempts.set(attempts.get() + 1);
        std::future::ready(if attempts.get() < 3 { Err(failure(503)) } else { Ok(attempts.get()) })
    });
    assert_eq!(review.await.unwrap(), 3);
    assert!((Duration::from_millis(600)..Duration::from_millis(800)).contains(&start.elapsed()));
    attempts.set(0);
    let forbidden = post_with_retries(|| {
        attempts.set(attempts.get() + 1);
        std::future::ready(Err::<(), _>(failure(403)))
    });
    assert!(matches!(forbidden.await, Err(ReviewError::Forbidden(_))));
    assert_eq!(attempts.get(), 1);
    let down = post_with_retries(|| {
        attempts.set(attempts.get() + 1);
        std::future::ready(Err::<(), _>(failure(500)))
    });
    let error = down.await.unwrap_err().to_string();
    assert!(error.contains("code 500"), "the last error and not the timeout: {error}");
    assert_eq!(attempts.get(), 1 + 5);
}

#[tokio::test(start_paused = true)]
async fn starts_another_attempt_while_the_first_has_no_response() {
    let (attempts, start) = (Cell::new(0), Instant::now());
    let review = post_with_retries(|| {
        attempts.set(attempts.get() + 1);
        let attempt = attempts.get();
        if attempt == 1 { std::future::pending().boxed() } else { async move { Ok(attempt) }.boxed() }
    });
    assert_eq!(review.await.unwrap(), 2);
    assert_eq!(start.elapsed(), NEXT_ATTEMPT);
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_slow_response_beside_further_attempts() {
    let (attempts, slow) = (Cell::new(0), Duration::from_secs(9));
    let start = Instant::now();
    let review = post_with_retries(|| {
        attempts.set(attempts.get() + 1);
        let attempt = attempts.get();
        async move {
            sleep(slow).await;
            Ok(attempt)
        }
    });
    assert_eq!((review.await.unwrap(), start.elapsed()), (1, slow));
    assert_eq!(attempts.get(), MAX_CONCURRENT);
}

#[tokio::test(start_paused = true)]
async fn gives_up_at_the_timeout() {
    let start = Instant::now();
    let silent = post_with_retries(std::future::pending::<Result<(), _>>);
    assert!(matches!(silent.await, Err(ReviewError::Timeout)));
    assert_eq!(start.elapsed(), TIMEOUT);
}

async fn review_token(client: &kube::Client) -> Result<TokenReview, ReviewError> {
    let api = Api::<TokenReview>::all(client.clone());
    post_with_retries(|| async { api.create(&PostParams::default(), &TokenReview::default()).await }).await
}

async fn review_access(client: &kube::Client) -> Result<SubjectAccessReview, ReviewError> {
    let api = Api::<SubjectAccessReview>::all(client.clone());
    let review = SubjectAccessReview::default();
    post_with_retries(|| async { api.create(&PostParams::default(), &review).await }).await
}

#[tokio::test(start_paused = true)]
async fn a_review_succeeds_on_a_new_connection_if_the_pooled_one_is_dead() {
    for server in FakeApiServer::both() {
        let client = server.cluster().client().unwrap();
        review_token(&client).await.unwrap();
        for _ in 0..2 {
            server.freeze_connections();
            let start = Instant::now();
            assert_eq!(review_token(&client).await.unwrap().status.unwrap().authenticated, Some(true));
            assert!(start.elapsed() < NEXT_ATTEMPT + Duration::from_secs(1), "{:?}", start.elapsed());
            server.freeze_connections();
            let start = Instant::now();
            assert!(review_access(&client).await.unwrap().status.unwrap().allowed);
            assert!(start.elapsed() < NEXT_ATTEMPT + Duration::from_secs(1), "{:?}", start.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_review_has_several_attempts_on_connections_that_are_silent() {
    for server in FakeApiServer::both() {
        let client = server.cluster().client().unwrap();
        server.freeze_new_connections(true);
        let recovers = server.clone();
        tokio::spawn(async move {
            sleep(NEXT_ATTEMPT * 3 / 2).await;
            recovers.freeze_new_connections(false);
        });
        let start = Instant::now();
        review_token(&client).await.unwrap();
        assert_eq!(start.elapsed(), NEXT_ATTEMPT * 2, "the third attempt");
        assert_eq!(server.connections(), 3);
    }
}
