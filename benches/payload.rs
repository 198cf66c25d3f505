//! How fast one profile becomes the body of a request.

use criterion::{BenchmarkId, Criterion, Throughput};
use forebay_engine::clock::Timestamp;
use forebay_engine::identity::table::{IdentityId, IdentityTable};
use forebay_engine::payload::{AudienceLine, MembershipGroup, PayloadPlan, Subject};
use forebay_engine::profile::attributes::{Attributes, Rank, Write, WriteKey};
use forebay_engine::profile::membership::{AudienceNo, Membership, Memberships, Status};
use forebay_engine::profile::path::{PathId, PathTable};

/// A small body, about 1 KB as most are, and a large one.
const SIZES: [Size; 3] = [
    Size { attributes: 2, audiences: 2 },
    Size { attributes: 8, audiences: 8 },
    Size { attributes: 32, audiences: 64 },
];

#[derive(Clone, Copy)]
struct Size {
    attributes: u32,
    audiences: u32,
}

/// A profile with everything that rendering reads.
struct Rendered {
    plan: PayloadPlan,
    attributes: Attributes,
    memberships: Memberships,
    identities: Vec<IdentityId>,
    table: IdentityTable,
    paths: PathTable,
}

impl Rendered {
    fn new(size: Size) -> Self {
        let mut paths = PathTable::default();
        let (attributes, mapped) = attributes(size.attributes, &mut paths);
        let mut table = IdentityTable::default();
        let identities =
            vec![table.intern("crmid", "c12345"), table.intern("email", "user12345@example.com")];
        Self {
            plan: PayloadPlan { attributes: mapped, audiences: lines(size.audiences) },
            attributes,
            memberships: memberships(size.audiences),
            identities,
            table,
            paths,
        }
    }

    fn render(&self) -> String {
        let subject = Subject {
            attributes: &self.attributes,
            memberships: &self.memberships,
            identities: &self.identities,
        };
        self.plan.render(subject, &self.table, &self.paths)
    }
}

pub(crate) fn define(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("payload/render");
    for size in SIZES {
        let profile = Rendered::new(size);
        let bytes = profile.render().len();
        group.throughput(Throughput::Bytes(bytes as u64));
        let id = BenchmarkId::from_parameter(format!("{bytes} bytes"));
        group.bench_with_input(id, &profile, |b, profile| b.iter(|| profile.render()));
    }
    group.finish();
}

fn attributes(count: u32, paths: &mut PathTable) -> (Attributes, Vec<PathId>) {
    let mut attributes = Attributes::default();
    let mut touched = Vec::new();
    for number in 0..count {
        // Four to a group, so that there are objects to open and close.
        let path = paths.intern(&format!("group{}.attribute{number}", number / 4));
        let value = format!("\"value of attribute {number}\"");
        let key = WriteKey { timestamp: Timestamp::EPOCH, offset: u64::from(number) };
        let write = Write { path, rank: Rank(0), key, value: Some(&value) };
        attributes.write(write, paths, &mut touched);
    }
    let groups = (0..count.div_ceil(4)).map(|group| paths.intern(&format!("group{group}")));
    let groups = groups.collect();
    (attributes, groups)
}

fn lines(count: u32) -> Vec<AudienceLine> {
    (0..count)
        .map(|number| AudienceLine {
            audience: AudienceNo(number),
            group: MembershipGroup::Rules,
            quoted_id: format!("\"audience_{number}\"").into(),
            extras: "".into(),
        })
        .collect()
}

fn memberships(count: u32) -> Memberships {
    let mut memberships = Memberships::default();
    for number in 0..count {
        memberships.set(Membership {
            status: Some(if number % 4 == 3 { Status::Exited } else { Status::Realized }),
            since: Timestamp::from_millis(1_767_225_600_000 + i64::from(number)),
            ..Membership::absent(AudienceNo(number))
        });
    }
    memberships
}
