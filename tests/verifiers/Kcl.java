// The Kinesis Client Library's own lease code, set upon a lease table that Sluicegate wrote.
//
//     java -cp 'JARS/*' Kcl.java http://127.0.0.1:PORT TABLE read WORKER SHARDS
//     java -cp 'JARS/*' Kcl.java http://127.0.0.1:PORT TABLE take
//     java -cp 'JARS/*' Kcl.java http://127.0.0.1:PORT TABLE renew SECONDS
//
// read: lists and deserialises the leases, and asks the owner index, while WORKER runs. take: takes every unfinished lease,
// renews and checkpoints it, as a library does that takes over. renew: renews what take took for so many seconds.
// It prints each step; anything that is not as the library needs it ends it with a stack trace and exit code 1.

import java.net.URI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.dynamodb.model.BillingMode;
import software.amazon.kinesis.common.DdbTableConfig;
import software.amazon.kinesis.leases.Lease;
import software.amazon.kinesis.leases.dynamodb.DynamoDBLeaseRefresher;
import software.amazon.kinesis.leases.dynamodb.DynamoDBLeaseSerializer;
import software.amazon.kinesis.leases.dynamodb.TableCreatorCallback;
import software.amazon.kinesis.retrieval.kpl.ExtendedSequenceNumber;

public class Kcl {
    private static final String ME = "kcl-worker";

    public static void main(String[] args) throws Exception {
        DynamoDbAsyncClient dynamodb = DynamoDbAsyncClient.builder()
                .endpointOverride(URI.create(args[0]))
                .region(Region.US_EAST_1)
                .credentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create("local", "local")))
                .build();
        DdbTableConfig config = new DdbTableConfig();
        config.billingMode(BillingMode.PAY_PER_REQUEST);
        DynamoDBLeaseRefresher leases = new DynamoDBLeaseRefresher(
                args[1], dynamodb, new DynamoDBLeaseSerializer(), true,
                TableCreatorCallback.NOOP_TABLE_CREATOR_CALLBACK, Duration.ofSeconds(30),
                config, false, false, new ArrayList<>());
        switch (args[2]) {
            case "read" -> read(leases, args[3], Integer.parseInt(args[4]));
            case "take" -> take(leases);
            case "renew" -> renew(leases, Integer.parseInt(args[3]));
            default -> throw new IllegalArgumentException(args[2]);
        }
        dynamodb.close();
        System.exit(0);
    }

    private static void read(DynamoDBLeaseRefresher leases, String worker, int shards) throws Exception {
        check(leases.leaseTableExists(), "the table is there and active");
        check(leases.isLeaseOwnerToLeaseKeyIndexActive(), "so is the owner index, under the library's name");
        List<Lease> all = leases.listLeases();
        check(all.size() == shards, shards + " leases, found " + all.size());
        TreeSet<String> mine = new TreeSet<>();
        for (Lease lease : all) {
            System.out.println("     " + lease.leaseKey() + " owner " + lease.leaseOwner() + " counter "
                    + lease.leaseCounter() + " checkpoint " + lease.checkpoint() + " hash keys "
                    + lease.hashKeyRangeForLease().serializedStartingHashKey() + ".."
                    + lease.hashKeyRangeForLease().serializedEndingHashKey());
            check(worker.equals(lease.leaseOwner()), lease.leaseKey() + " is owned by " + worker);
            check(lease.checkpoint().isSentinelCheckpoint() || lease.checkpoint().sequenceNumber().matches("[0-9]+"),
                    "its checkpoint is a sequence number or a sentinel");
            check(lease.pendingCheckpoint() == null && lease.checkpointOwner() == null, "nothing is pending");
            check(lease.leaseKey().equals(leases.getLease(lease.leaseKey()).leaseKey()), "it can be read alone");
            check(leases.getCheckpoint(lease.leaseKey()) != null, "so can its checkpoint");
            mine.add(lease.leaseKey());
        }
        TreeSet<String> indexed = new TreeSet<>(leases.listLeaseKeysForWorker(worker));
        check(indexed.equals(mine), "the index names the same leases of " + worker);
    }

    private static void take(DynamoDBLeaseRefresher leases) throws Exception {
        for (Lease lease : leases.listLeases()) {
            if (lease.checkpoint().isShardEnd()) {
                continue;
            }
            long counter = lease.leaseCounter();
            ExtendedSequenceNumber checkpoint = lease.checkpoint();
            check(leases.takeLease(lease, ME), lease.leaseKey() + " is taken at counter " + counter);
            check(ME.equals(lease.leaseOwner()) && lease.leaseCounter() == counter + 1, "and the counter rose");
            check(leases.renewLease(lease), "it is renewed");
            check(leases.updateLease(lease), "and checkpointed at " + checkpoint);
            Lease again = leases.getLease(lease.leaseKey());
            check(again.checkpoint().equals(checkpoint), "the checkpoint is the one that was found");
            check(ME.equals(again.leaseOwner()), "the owner is the library's worker");
            Lease stale = again.copy();
            stale.leaseCounter(again.leaseCounter() - 1);
            check(!leases.updateLease(stale), "a holder of an old counter is refused");
        }
    }

    private static void renew(DynamoDBLeaseRefresher leases, int seconds) throws Exception {
        long until = System.nanoTime() + Duration.ofSeconds(seconds).toNanos();
        while (System.nanoTime() < until) {
            for (Lease lease : leases.listLeases()) {
                if (ME.equals(lease.leaseOwner())) {
                    check(leases.renewLease(lease), lease.leaseKey() + " is renewed");
                }
            }
            Thread.sleep(500);
        }
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException("not so: " + what);
        }
        System.out.println("ok   " + what);
    }
}
