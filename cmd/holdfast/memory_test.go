package main

import (
	"testing"
	"testing/fstest"
)

func TestMemoryLimitIsTheSmallestThatBinds(t *testing.T) {
	const none = int64(-1)
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"no cgroups", nil, none},
		{"version 2, own limit", map[string]string{
			"proc/self/cgroup": "0::/system.slice/holdfast.service\n",
			"sys/fs/cgroup/system.slice/holdfast.service/memory.max": "134217728\n",
		}, 128 << 20},
		{"version 2, limit of the slice is lower", map[string]string{
			"proc/self/cgroup":             "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "134217728\n",
			"sys/fs/cgroup/a/memory.max":   "67108864\n",
		}, 64 << 20},
		{"version 2, no limit", map[string]string{
			"proc/self/cgroup":           "0::/a\n",
			"sys/fs/cgroup/a/memory.max": "max\n",
		}, none},
		{"version 2, in a container", map[string]string{
			"proc/self/cgroup":         "0::/\n",
			"sys/fs/cgroup/memory.max": "1048576\n",
		}, 1 << 20},
		{"version 1", map[string]string{
			"proc/self/cgroup": "12:pids:/x\n4:cpu,memory:/docker/1\n0::/\n",
			"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "268435456\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":          "9223372036854771712\n",
		}, 256 << 20},
		{"version 1, group not visible in the container", map[string]string{
			"proc/self/cgroup":                           "4:memory:/docker/1\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n",
		}, 256 << 20},
		{"version 1, no limit", map[string]string{
			"proc/self/cgroup":                           "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, none},
		{"no cgroups, memory of the machine", map[string]string{
			"proc/meminfo": "MemTotal:         947732 kB\nMemFree:          100 kB\n",
		}, 947732 << 10},
		{"a limit above the memory of the machine", map[string]string{
			"proc/meminfo":             "MemTotal:         1024 kB\n",
			"proc/self/cgroup":         "0::/\n",
			"sys/fs/cgroup/memory.max": "2097152\n",
		}, 1 << 20},
		{"nonsense", map[string]string{
			"proc/meminfo":             "MemTotal: none\n",
			"proc/self/cgroup":         "what\n0:\n:::::\n0::../../..\n",
			"sys/fs/cgroup/memory.max": "-5\n",
		}, none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range tt.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			got, ok := memory(root)
			if !ok {
				got = none
			}
			if got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
