//! A form sent to a server that takes what is in it once: under the same rules, to one place, with no redirect and no
//! second try.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use super::{FetchError, Fetcher};

/// What a server said to a form.
#[derive(Clone, Debug)]
pub(crate) struct Replied {
    pub(crate) status: StatusCode,
    pub(crate) bytes: Bytes,
}

impl Fetcher {
    /// Sends a form (`application/x-www-form-urlencoded`), with these credentials in `Authorization`. The answer
    /// is given whatever its status: an authorization server says in the body of a 400 what was wrong (RFC 6749,
    /// 5.2).
    ///
    /// # Errors
    /// [`FetchError::Transport`], [`FetchError::Body`], [`FetchError::Deadline`].
    pub(crate) async fn post(
        &self,
        form: String,
        credentials: Option<HeaderValue>,
    ) -> Result<Replied, FetchError> {
        let deadline = self.bounds.deadline;
        tokio::time::timeout(deadline, self.submit(form, credentials))
            .await
            .map_err(|_| FetchError::Deadline(deadline))?
    }

    async fn submit(
        &self,
        form: String,
        credentials: Option<HeaderValue>,
    ) -> Result<Replied, FetchError> {
        let mut request = self.request(&self.uri, form.into());
        *request.method_mut() = Method::POST;
        let fields = request.headers_mut();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        fields.insert(header::CONTENT_TYPE, kind);
        if let Some(credentials) = credentials {
            fields.insert(header::AUTHORIZATION, credentials);
        }
        let response = self.send(request).await?;
        let status = response.status();
        Ok(Replied {
            status,
            bytes: self.whole(response).await?,
        })
    }
}
