//! Questions to the cluster, answered by the leader or, where it may be out of date, by any replica.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use polybolos_model::JobId;
use polybolos_proto::v1;
use tokio::time::sleep;
use tonic::{Response, Status};

use crate::{
    Client, ClientError,
    call::{Call, Query, Shared, Verdict, query},
    limits::STALE_STAGGER,
};

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// The answer has everything that was committed before the call. Only the leader gives it, and only with a majority
    /// of the replicas.
    #[default]
    Linearizable,
    /// Whichever replica answers first tells what it knows; `freshness` in the answer says how old that may be.
    Stale,
}

impl Consistency {
    fn is_stale(self) -> bool {
        self == Self::Stale
    }
}

impl Client {
    /// Jobs that the cluster remembers, newest first.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::NoQuorum`].
    pub async fn jobs(&self) -> Result<Vec<v1::JobSummary>, ClientError> {
        Ok(self.jobs_with(Consistency::default()).await?.jobs)
    }

    /// Like [`Client::jobs`], as fresh as asked for.
    ///
    /// # Errors
    /// As [`Client::jobs`].
    pub async fn jobs_with(&self, consistency: Consistency) -> Result<v1::ListJobsResponse, ClientError> {
        let request = v1::ListJobsRequest { stale: consistency.is_stale() };
        let call = Call::read("the list of queries");
        self.shared.read(call, consistency, |mut query| async move { query.list_jobs(request).await }).await
    }

    /// Everything about one job.
    ///
    /// # Errors
    /// [`ClientError::NotFound`], [`ClientError::Unreachable`], [`ClientError::NoQuorum`].
    pub async fn job(&self, id: JobId) -> Result<v1::JobDetail, ClientError> {
        self.job_with(id, Consistency::default()).await
    }

    /// Like [`Client::job`], as fresh as asked for: a replica that lags behind does not know the newest jobs.
    ///
    /// # Errors
    /// As [`Client::job`].
    pub async fn job_with(&self, id: JobId, consistency: Consistency) -> Result<v1::JobDetail, ClientError> {
        let answer = self.shared.read(Call::read("a query's details"), consistency, |mut query| {
            let request = v1::GetJobRequest { job_id: id.to_string(), stale: consistency.is_stale() };
            async move { query.get_job(request).await }
        });
        answer.await
    }

    /// A job as its recorded decisions and faults, as JSON: [`polybolos_model::recorded::Recorded`].
    ///
    /// # Errors
    /// As [`Client::job`].
    pub async fn export_job(&self, id: JobId, consistency: Consistency) -> Result<Bytes, ClientError> {
        let answer = self.shared.read(Call::export(), consistency, |mut query| {
            let request = v1::ExportJobRequest { job_id: id.to_string(), stale: consistency.is_stale() };
            async move { query.export_job(request).await }
        });
        Ok(answer.await?.recorded)
    }

    /// Replicas and executors.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::NoQuorum`].
    pub async fn status(&self) -> Result<v1::ClusterStatusResponse, ClientError> {
        self.status_with(Consistency::default()).await
    }

    /// Like [`Client::status`], as fresh as asked for.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn status_with(
        &self,
        consistency: Consistency,
    ) -> Result<v1::ClusterStatusResponse, ClientError> {
        let request = v1::ClusterStatusRequest { stale: consistency.is_stale() };
        let call = Call::read("the cluster's status");
        self.shared
            .read(call, consistency, |mut query| async move { query.cluster_status(request).await })
            .await
    }

    /// Names of tables and views, for completion.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], [`ClientError::NoQuorum`].
    pub async fn relations(&self) -> Result<Vec<String>, ClientError> {
        self.relations_with(Consistency::default()).await
    }

    /// Like [`Client::relations`], as fresh as asked for.
    ///
    /// # Errors
    /// As [`Client::relations`].
    pub async fn relations_with(&self, consistency: Consistency) -> Result<Vec<String>, ClientError> {
        let request = v1::ListRelationsRequest { stale: consistency.is_stale() };
        let call = Call::read("the list of tables");
        let answer = self
            .shared
            .read(call, consistency, |mut query| async move { query.list_relations(request).await });
        Ok(answer.await?.names)
    }
}

impl Shared {
    async fn read<R, F, S>(&self, call: Call, consistency: Consistency, send: S) -> Result<R, ClientError>
    where
        S: Fn(Query) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        match consistency {
            Consistency::Linearizable => self.call(call, send).await,
            Consistency::Stale => self.ask_any(call, send).await,
        }
    }

    /// The first answer of any replica, asked anew until the reach deadline has passed.
    async fn ask_any<R, F, S>(&self, call: Call, send: S) -> Result<R, ClientError>
    where
        S: Fn(Query) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let started = self.env.clock.now();
        let mut step = 0;
        loop {
            let last = match self.race(call.attempt_timeout, &send).await {
                Ok(answer) => return Ok(answer),
                Err(Verdict::Final(error)) => return Err(error),
                Err(Verdict::NotLeader(_)) => "the replica answers only when it leads".to_owned(),
                Err(Verdict::Superseded(leader)) => format!("{leader} leads"),
                Err(
                    Verdict::Busy(last)
                    | Verdict::NoQuorum(last)
                    | Verdict::NotSent(last)
                    | Verdict::Unknown(last),
                ) => last,
            };
            if self.env.clock.now() - started >= self.reach_deadline {
                return Err(ClientError::Unreachable { addresses: self.addresses.clone(), last });
            }
            sleep(self.backoff(step)).await;
            step = step.saturating_add(1);
        }
    }

    /// Asks one replica after the other, from a drawn one on, without waiting long for any.
    async fn race<R, F, S>(&self, limit: Duration, send: &S) -> Result<R, Verdict>
    where
        S: Fn(Query) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let send = |channel| send(query(channel));
        let count = self.addresses.len();
        let first = self.env.random.below(count as u64) as usize;
        let in_turn = self.addresses.iter().cycle().skip(first).take(count);
        let mut asked: FuturesUnordered<_> = in_turn
            .zip(0_u32..)
            .map(|(address, turn)| {
                let send = &send;
                async move {
                    sleep(STALE_STAGGER * turn).await;
                    self.attempt(address, limit, send).await
                }
            })
            .collect();
        let mut last = Verdict::NotSent("no address was given".to_owned());
        while let Some(answer) = asked.next().await {
            match answer {
                Err(verdict) if !matches!(verdict, Verdict::Final(_)) => last = verdict,
                answer => return answer,
            }
        }
        Err(last)
    }
}
