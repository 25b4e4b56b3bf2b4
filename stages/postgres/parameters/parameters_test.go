package parameters

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		major       int
		name, value string
		want        string // a part of the error; "": valid
		warning     bool
	}{
		{17, "shared_buffers", "300MB", "", false},
		{17, "shared_buffers", " 0x4000 ", "", false},
		{17, "shared_buffers", "1.5GB", "", false},
		{17, "shared_buffer", "300MB", `PostgreSQL 17 does not have this parameter; did you mean "shared_buffers"?`, false},
		{17, "shared_buffers", "300mb", "which are B, kB, MB, GB and TB", false},
		{17, "shared_buffers", "64kB", "64kB is not in the range of 16 times 8kB to 1073741823 times 8kB", false},
		{17, "shared_buffers", "many", "is not a number", false},
		{17, "statement_timeout", "5min", "", false},
		{17, "statement_timeout", "5 minutes", "which are us, ms, s, min, h and d", false},
		{17, "max_connections", "20MB", "write a number alone", false},
		{17, "max_connections", "0", "not in the range of 1 to 262143", false},
		{17, "checkpoint_completion_target", "0.9", "", false},
		{17, "checkpoint_completion_target", "90", "not in the range of 0 to 1", false},
		{17, "seq_page_cost", "nan", "is not a number", false},
		{17, "jit", "of", "", false},
		{17, "jit", "o", "is not on or off", false},
		{17, "jit", "", "is not on or off", false},
		{17, "wal_level", "Logical", "", false},
		{17, "wal_level", "hot_standby", "", false}, // of PostgreSQL 9, still accepted
		{17, "wal_level", "full", "is none of minimal, replica, logical", false},
		{17, "synchronous_commit", "yes", "", false},
		{17, "log_timezone", "Europe/Zurich", "", false},
		{17, "block_size", "8192", "cannot be changed", false},
		{17, "pg_stat_statements.max", "many", "not checked", true},
		{17, "vacuum_defer_cleanup_age", "0", "PostgreSQL 17 does not have this parameter", false},
		{15, "vacuum_defer_cleanup_age", "0", "", false},
		{13, "vacuum_mem", "64MB", "", false},
		{13, "summarize_wal", "on", "PostgreSQL 13 does not have", false},

		// Versions without a table use a neighbour's, if it has the parameter.
		{16, "vacuum_defer_cleanup_age", "0", "PostgreSQL 17 does not have this parameter, and those of 16 are not known", true},
		{16, "shared_buffers", "300mb", "which are B", false},
		{16, "shared_buffer", "300MB", `did you mean "shared_buffers"?`, true},
		{18, "io_method", "worker", "PostgreSQL 17 does not have this parameter, and those of 18 are not known", true},
		{18, "max_connections", "0", "not in the range", false},
		{12, "max_connections", "100", "", false},
	}
	for _, tt := range tests {
		faults, err := Check(tt.major, map[string]string{tt.name: tt.value})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case tt.want == "" && len(faults) > 0:
			t.Errorf("%d: %v", tt.major, faults)
		case tt.want != "" && (len(faults) != 1 || !strings.Contains(faults[0].Error(), tt.want) || faults[0].Warning != tt.warning):
			t.Errorf("%d: %s = %q: %+v, want %s", tt.major, tt.name, tt.value, faults, tt.want)
		}
	}
}
