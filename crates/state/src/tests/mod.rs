//! What no transcript can show: encodings, the policy, the dispatcher, and random sequences of everything.

mod codec;
mod dispatch;
mod dispatch_ahead;
mod dispatch_alone;
mod dispatch_copies;
mod dispatch_deaths;
mod dispatch_drain;
mod dispatch_failures;
mod dispatch_memory;
mod dispatch_parallel;
mod dispatch_priority;
mod dispatch_random;
mod dispatch_waits;
mod failover;
mod leader_clock;
mod overrun;
mod policy;
mod queue;
mod random;
mod result_bytes;
mod rollback_random;
mod shares;
