package guestspec

// StepUpgrade is the step that upgrades PostgreSQL's cluster: Service.Upgrade begins with a program
// and this word.
const StepUpgrade = "postgres-upgrade"

// What StepUpgrade does, by its flag --do.
const (
	DoUpgrade   = "upgrade"   // the cluster of the old server becomes one of the new server
	DoChecksums = "checksums" // the cluster's pages get checksums
	DoForget    = "forget"    // the cluster that was upgraded is removed
)
