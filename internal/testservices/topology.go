package testservices

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// SentinelMaster is the name under which RedisSentinel's master is known.
const SentinelMaster = "imgus"

// Sentinel is a master and a replica watched by one Redis Sentinel, which
// promotes the replica about a second after the master has gone.
type Sentinel struct {
	Addr    string // of the sentinel, host:port
	Master  *RedisServer
	Replica *RedisServer
}

// RedisSentinel starts a Sentinel and waits until it is able to fail over.
func RedisSentinel(t testing.TB) Sentinel {
	t.Helper()
	master := StartRedis(t, RedisOptions{})
	host, port, _ := net.SplitHostPort(master.Addr)
	replica := StartRedis(t, RedisOptions{Args: []string{"--replicaof", host + " " + port, "--repl-diskless-sync-delay", "0"}})

	watcher := newProcess(t, redisBinary(t))
	group := Sentinel{Master: master, Replica: replica}
	watcher.ready = func() error { return ping(group.Addr) }
	watcher.startOnFreePort(false, func(port int) {
		group.Addr = address(port)
		file := filepath.Join(watcher.dir, "sentinel.conf")
		if err := os.WriteFile(file, sentinelConfig(port, master.Addr), 0o600); err != nil {
			t.Fatal(err)
		}
		watcher.args = []string{file, "--sentinel"}
	})
	waitFor(t, "the replica's first copy", replica.Addr, []string{"INFO", "replication"}, "master_link_status:up")
	waitFor(t, "the sentinel", group.Addr, []string{"INFO", "sentinel"}, "status=ok", "slaves=1")
	return group
}

func sentinelConfig(port int, master string) []byte {
	host, masterPort, _ := net.SplitHostPort(master)
	return fmt.Appendf(nil, `bind 127.0.0.1
port %d
sentinel monitor %[2]s %s %s 1
sentinel down-after-milliseconds %[2]s 500
sentinel failover-timeout %[2]s 2000
`, port, SentinelMaster, host, masterPort)
}

// slots is the number of hash slots of a Redis Cluster.
const slots = 16384

// RedisCluster starts a Redis Cluster of three masters.
func RedisCluster(t testing.TB) []*RedisServer {
	t.Helper()
	nodes := make([]*RedisServer, 3)
	for i := range nodes {
		nodes[i] = startRedis(t, RedisOptions{}, true)
		addSlots := []string{"CLUSTER", "ADDSLOTS"}
		for slot := i * slots / len(nodes); slot < (i+1)*slots/len(nodes); slot++ {
			addSlots = append(addSlots, strconv.Itoa(slot))
		}
		mustCommand(t, nodes[i].Addr, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		mustCommand(t, nodes[i].Addr, addSlots...)
	}
	for _, node := range nodes[1:] {
		host, port, _ := net.SplitHostPort(node.Addr)
		mustCommand(t, nodes[0].Addr, "CLUSTER", "MEET", host, port)
	}
	for _, node := range nodes {
		waitFor(t, "the cluster", node.Addr, []string{"CLUSTER", "INFO"},
			"cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3")
	}
	return nodes
}

func mustCommand(t testing.TB, addr string, args ...string) {
	t.Helper()
	if _, err := command(addr, args...); err != nil {
		t.Fatalf("%s: %v", strings.Join(args[:2], " "), err)
	}
}

// waitFor repeats a command until its answer has all the texts.
func waitFor(t testing.TB, what, addr string, args []string, texts ...string) {
	t.Helper()
	deadline := time.Now().Add(startTime)
	for {
		answer, err := command(addr, args...)
		missing := ""
		for _, text := range texts {
			if !strings.Contains(answer, text) {
				missing = text
			}
		}
		if err == nil && missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready: no %s (%v) in %s", what, missing, err, answer)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
