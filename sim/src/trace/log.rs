//! What the real code logs, on the tape.
//!
//! It is always put down from `debug` on, whatever a person wants to see: a run that is looked at closely must be the
//! same run.

use std::fmt::{self, Write};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    subscriber::Interest,
};
use tracing_subscriber::{Registry, layer::Context, layer::Layer, layer::SubscriberExt};

use crate::{moment::What, tape};

const OURS: &str = "polybolos";

/// Puts events of our code on the tape, for the rest of this process. A second call changes nothing.
pub fn listen() {
    // An error says that somebody listens already.
    let _listens = tracing::subscriber::set_global_default(Registry::default().with(Tap));
}

struct Tap;

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && *metadata.level() <= Level::DEBUG && metadata.target().starts_with(OURS)
}

impl<S: Subscriber> Layer<S> for Tap {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_ours(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_ours(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        tape::record(What::Log {
            level: metadata.level().as_str(),
            target: metadata.target().to_owned(),
            text: text.message + &text.fields,
        });
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
