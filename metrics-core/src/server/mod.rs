//! The HTTPS port: TLS, authentication, authorization, and the path of a request to its handler.

pub mod authentication;
pub mod authorization;
pub mod listen;
pub mod request_info;
pub mod reviews;
pub mod tls;
