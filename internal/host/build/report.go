package build

import (
	"github.com/sovereign-sql/sov/internal/host/reproducible"
	"github.com/sovereign-sql/sov/stages"
)

// A Report is the result of a build.
type Report struct {
	Dir         string  `json:"dir"`
	LockWritten bool    `json:"lock_written"`
	Seconds     float64 `json:"seconds"`
	Stages      []Stage `json:"stages"`
	Files       []File  `json:"files"`

	Reproducible *reproducible.Report `json:"reproducible,omitempty"` // only with CheckReproducible

	Result *stages.Result `json:"-"` // for its explanation
}

// A Stage is the outcome of one stage.
type Stage struct {
	Name     string   `json:"name"`
	Key      string   `json:"key"`
	Status   string   `json:"status"`           // "cached" or "built"
	Reason   string   `json:"reason,omitempty"` // why it ran
	Remote   string   `json:"remote,omitempty"` // the remote cache it came from, in this build or an earlier one
	Signer   string   `json:"signer,omitempty"` // ID of the key that had signed it there, with --cache-key
	Seconds  float64  `json:"seconds"`
	Warnings []string `json:"warnings,omitempty"`
}

// A File is one file of the artifact.
type File struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"` // bytes
	Digest  string `json:"digest"`
	Changed bool   `json:"changed"` // since the last export to this folder
}

func newReport(r *stages.Result, rebuilt *reproducible.Report) *Report {
	report := &Report{Dir: r.Dir, LockWritten: r.LockWritten, Seconds: r.Elapsed.Seconds(), Reproducible: rebuilt, Result: r}
	for _, s := range r.Stages {
		report.Stages = append(report.Stages, Stage{
			Name: s.Name, Key: s.Key, Status: string(s.Status), Reason: s.Reason, Remote: s.From, Signer: s.Signer, Seconds: s.Elapsed.Seconds(), Warnings: s.Warnings,
		})
	}
	for _, file := range r.Exported {
		report.Files = append(report.Files, File{file.Name, file.Size, string(file.Digest), file.Changed})
	}
	return report
}
