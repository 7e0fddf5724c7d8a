//! The services behind the proxy, and who kills them.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use portcullis_tests::{
    ground::free_address,
    numbers::Numbers,
    run::{RigError, Rigged, eventually},
};

/// How long one may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// One process, from its start to its end.
pub(crate) struct Life {
    pub(crate) log: PathBuf,
    pub(crate) killed: bool,
}

/// A time for which one place had nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absence {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

/// A place and who is there now.
struct Post {
    address: SocketAddr,
    child: Child,
    life: usize,
}

/// All of them.
pub(crate) struct Fleet {
    folder: PathBuf,
    posts: Vec<Post>,
    pub(crate) lives: Vec<Life>,
    pub(crate) absences: Vec<Absence>,
}

impl Fleet {
    /// Starts so many, who write into this folder.
    pub(crate) fn start(folder: PathBuf, count: usize) -> Rigged<Self> {
        std::fs::create_dir(&folder)?;
        let mut fleet = Self {
            folder,
            posts: Vec::new(),
            lives: Vec::new(),
            absences: Vec::new(),
        };
        for _ in 0..count {
            let address = free_address()?;
            let (child, life) = fleet.born(address)?;
            fleet.posts.push(Post {
                address,
                child,
                life,
            });
        }
        Ok(fleet)
    }

    /// Where they listen.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.posts.iter().map(|post| post.address).collect()
    }

    fn born(&mut self, address: SocketAddr) -> Rigged<(Child, usize)> {
        let life = self.lives.len();
        let log = self.folder.join(format!("backend-{life}"));
        let mut child = Command::new(std::env::current_exe()?)
            .args(["backend", &address.to_string()])
            .arg(&log)
            .spawn()?;
        self.lives.push(Life { log, killed: false });
        let listens = eventually("a backend listens", PATIENCE, || {
            std::net::TcpStream::connect(address).ok()
        });
        if let Err(error) = listens {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok((child, life))
    }

    fn kill(&mut self, at: usize) -> Rigged<()> {
        let post = &mut self.posts[at];
        let from = Instant::now();
        post.child.kill()?;
        post.child.wait()?;
        self.lives[post.life].killed = true;
        self.absences.push(Absence { from, until: from });
        Ok(())
    }

    fn replace(&mut self, at: usize) -> Rigged<()> {
        let (child, life) = self.born(self.posts[at].address)?;
        (self.posts[at].child, self.posts[at].life) = (child, life);
        if let Some(last) = self.absences.last_mut() {
            last.until = Instant::now();
        }
        Ok(())
    }

    /// Kills one at random again and again, and puts another in its place: one place of all is empty at a
    /// time.
    pub(crate) fn haunt(mut self, mut numbers: Numbers) -> Haunted {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let rest = |least: u64, most: u64, numbers: &mut Numbers| {
                let end =
                    Instant::now() + Duration::from_millis(least + numbers.below(most - least));
                while Instant::now() < end && !seen.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(10));
                }
            };
            while !seen.load(Ordering::Relaxed) {
                rest(500, 5_000, &mut numbers);
                let at = numbers.index(self.posts.len());
                self.kill(at)?;
                rest(50, 2_000, &mut numbers);
                self.replace(at)?;
            }
            Ok(self)
        });
        let thread = Some(thread);
        Haunted { over, thread }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for post in &mut self.posts {
            let _ = post.child.kill();
            let _ = post.child.wait();
        }
    }
}

/// Services that are being killed. Dropped by a run that has failed, it ends them all.
pub(crate) struct Haunted {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Rigged<Fleet>>>,
}

impl Haunted {
    /// Lets them live from now on.
    pub(crate) fn end(mut self) -> Rigged<Fleet> {
        let ended = self.join().and_then(Result::ok);
        ended.ok_or_else(|| RigError("whoever kills backends panicked".to_owned()))?
    }

    fn join(&mut self) -> Option<thread::Result<Rigged<Fleet>>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for Haunted {
    fn drop(&mut self) {
        drop(self.join());
    }
}
