//! `capsem-agent`: process 1 of a Capsem machine (docs/formats/wire.md).
//!
//! One thread and one loop: it may fork without harm, and what it keeps is bounded by the windows of the streams. Refuses
//! whatever is not of the documented form, and runs nothing before the host has given the machine its identity.

pub mod accounts;
mod acts;
pub mod agent;
pub mod allowance;
pub mod boot;
pub mod bridge;
pub mod changes;
pub mod doctor;
pub mod errno;
pub mod files;
pub mod frame;
pub mod freezer;
pub mod hardening;
pub mod identity;
pub mod job;
pub mod line;
pub mod mcp;
pub mod message;
pub mod network;
pub mod port;
pub mod prefetch;
pub mod processes;
pub mod redirect;
pub mod reports;
pub mod share;
pub mod stream;
pub mod sys;
pub mod trust;
pub mod watching;
pub mod whose;
pub mod window;
