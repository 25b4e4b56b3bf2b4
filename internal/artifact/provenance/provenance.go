// Package provenance is the format of provenance.json, the statement of an artifact's files and
// inputs, and of provenance.dsse.json, the signed statement.
//
// The statement is an in-toto attestation, version 1
// (https://github.com/in-toto/attestation/tree/main/spec/v1), with SLSA's provenance predicate
// (https://slsa.dev/provenance/v1). Like the rest of an artifact it does not contain times,
// computers or directories: the same build gives the same statement, for every signer. The
// signature is in a separate file, so that signing does not change the artifact. It covers the
// statement with a Release, which the signer adds.
//
// The statement's subjects are the manifest and its files, so the signature covers every byte of
// the artifact.
package provenance

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/finding"
)

// Identifiers of the specifications and of this program.
const (
	PayloadType   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	buildType     = "https://github.com/sovereign-sql/sov/blob/main/docs/trust.md#build-type-v1"
	builderID     = "https://github.com/sovereign-sql/sov"
)

// A Statement is the content of provenance.json.
type Statement struct {
	Type          string     `json:"_type"`
	Subject       []Resource `json:"subject"` // by name
	PredicateType string     `json:"predicateType"`
	Predicate     Predicate  `json:"predicate"`
}

// A Resource is an in-toto ResourceDescriptor.
type Resource struct {
	Name             string            `json:"name,omitempty"`
	URI              string            `json:"uri,omitempty"` // a package URL where there is one
	Digest           map[string]string `json:"digest,omitempty"`
	Content          []byte            `json:"content,omitempty"` // of what is small
	DownloadLocation string            `json:"downloadLocation,omitempty"`
}

// A Predicate is SLSA's provenance.
type Predicate struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
	// Release is in signed statements only. SLSA wants the vendor before the name of a field that
	// is not its own (https://slsa.dev/spec/v1.0/provenance, "Extension fields").
	Release *Release `json:"sov_release,omitempty"`
}

// A BuildDefinition describes the build and its inputs.
type BuildDefinition struct {
	BuildType            string     `json:"buildType"`
	ExternalParameters   External   `json:"externalParameters"`
	InternalParameters   Internal   `json:"internalParameters"`
	ResolvedDependencies []Resource `json:"resolvedDependencies"`
}

// External has the parameters that the user chooses: the recipe, and flags that override it.
type External struct {
	Recipe       Resource `json:"recipe"`  // with its text, in which what it extends is merged
	Version      string   `json:"version"` // the recipe's
	Arch         string   `json:"arch"`    // "arm64" or "amd64"
	Image        string   `json:"image"`   // base image, as asked for
	Repositories []string `json:"repositories,omitempty"`
	Packages     []string `json:"packages,omitempty"` // as asked for
	Kernel       string   `json:"kernel"`             // source as asked for, KernelDefault or KernelFinished
}

// Values of External.Kernel besides a source.
const (
	KernelDefault  = "default"  // the first source that answers
	KernelFinished = "finished" // a kernel image was given
)

// Internal has the parameters that depend on the builder's computer.
type Internal struct {
	KernelCompiler string `json:"kernelCompiler,omitempty"`
	Go             string `json:"go,omitempty"` // toolchain that compiled Tailscale

	// Unconfined lists what was compiled without confinement: "kernel", "tailscale".
	Unconfined []string `json:"unconfined,omitempty"`
}

// RunDetails describes the builder.
type RunDetails struct {
	Builder Builder `json:"builder"`
}

// A Builder is a release of sov.
type Builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version"`
}

// New returns a statement. subjects are the artifact's files, including the manifest, by name;
// version is sov's.
func New(subjects []manifest.File, version string, external External, internal Internal, dependencies []Resource) *Statement {
	s := &Statement{Type: statementType, PredicateType: predicateType, Predicate: Predicate{
		BuildDefinition: BuildDefinition{BuildType: buildType, ExternalParameters: external, InternalParameters: internal,
			ResolvedDependencies: dependencies},
		RunDetails: RunDetails{Builder{ID: builderID, Version: map[string]string{"sov": version}}},
	}}
	for _, f := range subjects {
		s.Subject = append(s.Subject, Resource{Name: f.Name, Digest: SHA256(f.SHA256)})
	}
	return s
}

// SHA256 is the digest set of one SHA-256, given in hexadecimal.
func SHA256(hex string) map[string]string { return map[string]string{"sha256": hex} }

// Version returns the version of sov in the statement.
func (s *Statement) Version() string { return s.Predicate.RunDetails.Builder.Version["sov"] }

// Encode returns the file's content, indented for reading.
func (s *Statement) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // ">" is common in package constraints
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return nil, fmt.Errorf("encode %s: %w", artifact.ProvenanceFile, err)
	}
	return b.Bytes(), nil
}

// Decode decodes a statement and checks its types. It ignores unknown keys, as in-toto's parsing
// rules require.
func Decode(src []byte) (*Statement, error) {
	s := &Statement{}
	if err := json.Unmarshal(src, s); err != nil {
		return nil, fmt.Errorf("decode %s: %w", artifact.ProvenanceFile, err)
	}
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", artifact.ProvenanceFile, err)
	}
	return s, nil
}

func (s *Statement) validate() error {
	if s.Type != statementType || s.PredicateType != predicateType {
		return fmt.Errorf("it is a %.80q with a %.80q, not SLSA provenance", s.Type, s.PredicateType)
	}
	if s.Predicate.BuildDefinition.BuildType != buildType {
		return fmt.Errorf("its build type %.120q is not sov's", s.Predicate.BuildDefinition.BuildType)
	}
	if len(s.Subject) == 0 {
		return errors.New("it is about nothing")
	}
	seen := map[string]bool{}
	for _, f := range s.Subject {
		if sum, err := hex.DecodeString(f.Digest["sha256"]); err != nil || len(sum) != 32 || f.Name == "" || seen[f.Name] {
			return fmt.Errorf("subject %.80q has no proper name and SHA-256, or is listed twice", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// Check compares the subjects with an artifact's files, including the manifest.
func (s *Statement) Check(files []manifest.File) []finding.Finding {
	var problems []finding.Finding
	digests := map[string]string{}
	for _, f := range s.Subject {
		digests[f.Name] = f.Digest["sha256"]
	}
	for _, f := range files {
		switch sum, ok := digests[f.Name]; {
		case !ok:
			problems = append(problems, finding.Fail(f.Name, "is not among the subjects of "+artifact.ProvenanceFile, ""))
		case sum != f.SHA256:
			problems = append(problems, finding.Fail(f.Name, fmt.Sprintf("has SHA-256 %s, %s says %s", f.SHA256, artifact.ProvenanceFile, sum), ""))
		}
		delete(digests, f.Name)
	}
	for _, f := range s.Subject {
		if _, ok := digests[f.Name]; ok {
			problems = append(problems, finding.Fail(f.Name, "is a subject of "+artifact.ProvenanceFile+" and not in the manifest", ""))
		}
	}
	return problems
}
