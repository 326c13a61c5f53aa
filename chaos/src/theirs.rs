//! A cluster that runs already: only commands of the user's stop and start its nodes.

use crate::os::run;

/// In a command it stands for the node: the address of a scheduler, the name of an executor.
pub const PLACE: &str = "{node}";

#[derive(Clone)]
pub struct Theirs {
    pub schedulers: Vec<String>,
    stop: Option<String>,
    start: Option<String>,
}

impl Theirs {
    pub fn new(schedulers: Vec<String>, stop: Option<String>, start: Option<String>) -> Self {
        Self { schedulers, stop, start }
    }

    /// # Errors
    /// There is no such command, or it failed.
    pub async fn stop(&self, node: &str) -> Result<(), String> {
        Self::command(self.stop.as_deref(), "--stop-command", node).await
    }

    /// # Errors
    /// As [`Theirs::stop`].
    pub async fn start(&self, node: &str) -> Result<(), String> {
        Self::command(self.start.as_deref(), "--start-command", node).await
    }

    async fn command(command: Option<&str>, flag: &str, node: &str) -> Result<(), String> {
        let command = command.ok_or_else(|| format!("{flag} was not given"))?;
        // Names come from the cluster: nothing of them is for the shell.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:[]".contains(c);
        if !node.chars().all(is_plain) {
            return Err(format!("'{node}' is no name for a command"));
        }
        run("sh", &["-c", &command.replace(PLACE, node)]).await.map(drop).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_get_the_node_and_nothing_else() {
        let theirs = Theirs::new(Vec::new(), Some("test {node} = 10.0.0.1:7600".to_owned()), None);
        assert_eq!(theirs.stop("10.0.0.1:7600").await, Ok(()));
        assert!(theirs.stop("10.0.0.2:7600").await.is_err());
        assert!(theirs.stop("$(true)").await.unwrap_err().contains("no name"));
        assert!(theirs.start("x").await.unwrap_err().contains("--start-command"));
    }
}
