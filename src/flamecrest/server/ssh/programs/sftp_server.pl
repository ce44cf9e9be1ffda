# An SFTP server, version 3, on standard input and output, for login nodes that run commands but have no SFTP subsystem.
# It answers in order, with the status codes, limits and argument order of OpenSSH's sftp-server, and ends with its
# input. Names are bytes. It needs perl 5.10 or later with 64-bit integers, and only core modules.
#
# The source is sent as one line in single quotes, for any login shell: lines that begin with # are left out, the others
# are joined by spaces. So it must not contain a comment after code, a string over two lines, an exclamation mark
# (history expansion in csh) or a single quote. $errno stands for the variable whose name is an exclamation mark.
use Errno qw(EACCES EBADF EFAULT EINVAL ELOOP ENAMETOOLONG ENOENT ENOSYS ENOTDIR EOPNOTSUPP EPERM EXDEV);
use Fcntl qw(:mode O_APPEND O_CREAT O_EXCL O_RDONLY O_RDWR O_TRUNC O_WRONLY SEEK_SET);

my ($OK, $EOF, $MISSING, $DENIED, $FAILURE, $BAD, $UNSUPPORTED) = (0, 1, 2, 3, 4, 5, 8);
my @WORDS = ("Success", "End of file", "No such file", "Permission denied", "Failure", "Bad message");
$WORDS[$UNSUPPORTED] = "Operation unsupported";
my %CODE = ((map { $_ => $MISSING } ENOENT, ENOTDIR, EBADF, ELOOP), (map { $_ => $DENIED } EPERM, EACCES, EFAULT),
  (map { $_ => $BAD } ENAMETOOLONG, EINVAL), ENOSYS, $UNSUPPORTED);
my $MAX_PACKET = 262144;
my $MAX_DATA = $MAX_PACKET - 1024;
my $MAX_PATH = 4096;
my $BATCH = 100;
my @MONTHS = qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec);
my $malformed = \"malformed";
my $syncs = eval { require IO::Handle; IO::Handle->can("sync") };
my $started = eval { require Cwd; Cwd::getcwd() } || $ENV{PWD} || "/";

# the packet in progress is in $in from $at to $stop; $id is its number
my ($in, $at, $stop, $id, $greeted) = ("", 0, 0, 0, 0);
my (%file, %folder);
my $handles = 0;

# --- parsing a request

sub u32 {
  die $malformed if $at + 4 > $stop;
  my $n = unpack "N", substr $in, $at, 4;
  $at += 4;
  return $n;
}
sub u64 {
  die $malformed if $at + 8 > $stop;
  my $n = unpack "Q>", substr $in, $at, 8;
  $at += 8;
  return $n;
}
sub bytes {
  my $n = u32();
  die $malformed if $at + $n > $stop;
  my $bytes = substr $in, $at, $n;
  $at += $n;
  return $bytes;
}
sub path {
  my $path = bytes();
  die $malformed if index($path, "\0") >= 0;
  return $path;
}
sub attrs {
  my $flags = u32();
  my %given;
  $given{size} = u64() if $flags & 1;
  $given{owner} = [u32(), u32()] if $flags & 2;
  $given{mode} = u32() & 07777 if $flags & 4;
  $given{times} = [u32(), u32()] if $flags & 8;
  if ($flags & 0x80000000) { for (1 .. u32()) { bytes(); bytes() } }
  return \%given;
}

# --- writing an answer

sub answer {
  my ($type, $body) = @_;
  $out .= pack("NCN", length($body) + 5, $type, $id) . $body;
}
sub status { my ($code) = @_; answer(101, pack "N N/a* N", $code, $WORDS[$code], 0) }
sub failed { status($CODE{$errno + 0} || $FAILURE) }
sub outcome { my ($done) = @_; $done ? status($OK) : failed() }
sub handle { my ($handle) = @_; answer(102, pack "N/a*", $handle) }
sub packed { pack "N Q> N5", 15, $_[7], map { $_ & 0xffffffff } @_[4, 5, 2, 8, 9] }
sub stated { @_ ? answer(105, packed(@_)) : failed() }
sub named { my ($name) = @_; answer(104, pack "N N/a* N/a* N", 1, $name, $name, 0) }

sub letters {
  my ($mode) = @_;
  my %kind = (S_IFDIR, "d", S_IFLNK, "l", S_IFREG, "-", S_IFIFO, "p", S_IFSOCK, "s", S_IFBLK, "b", S_IFCHR, "c");
  my @bits = map { ($mode & 1 << 8 - $_) ? substr("rwx", $_ % 3, 1) : "-" } 0 .. 8;
  $bits[2] = $bits[2] eq "x" ? "s" : "S" if $mode & 04000;
  $bits[5] = $bits[5] eq "x" ? "s" : "S" if $mode & 02000;
  $bits[8] = $bits[8] eq "x" ? "t" : "T" if $mode & 01000;
  return join "", $kind{S_IFMT($mode)} || "?", @bits, " ";
}
# the line of ls -l for an entry
sub long {
  my ($name, @s) = @_;
  my @t = localtime $s[9];
  my $new = time - $s[9] < 365 * 24 * 60 * 60 / 2 && $s[9] <= time;
  my $when = @t ? sprintf("%s %2d %s", $MONTHS[$t[4]], $t[3],
    $new ? sprintf("%02d:%02d", @t[2, 1]) : sprintf(" %4d", $t[5] + 1900)) : $s[9];
  return sprintf "%s %3u %-8s %-8s %8u %s %s", letters($s[2]), $s[3],
    owner(\%user, $s[4], sub { getpwuid $_[0] }), owner(\%group, $s[5], sub { getgrgid $_[0] }), $s[7], $when, $name;
}

# --- changing attributes: each one is tried, the last failure is returned

sub change {
  my ($target, $given) = @_;
  my $code = $OK;
  my $try = sub { $code = $CODE{$errno + 0} || $FAILURE unless $_[0] };
  $try->(truncate $target, $given->{size}) if exists $given->{size};
  $try->(chmod $given->{mode}, $target) if exists $given->{mode};
  $try->(utime @{$given->{times}}, $target) if exists $given->{times};
  $try->(chown @{$given->{owner}}, $target) if exists $given->{owner};
  status($code);
}

# as in OpenSSH: links are resolved, and only the last name may be missing
sub resolved {
  my ($left) = @_;
  my $path = $left =~ m{^/} ? "" : $started eq "/" ? "" : $started;
  my $links = 0;
  if (length $left >= $MAX_PATH) { $errno = ENAMETOOLONG; return undef }
  while (length $left) {
    my ($next, $rest) = $left =~ m{^([^/]*)(?:/(.*))?$}s;
    my $last = not defined $rest;
    $left = $last ? "" : $rest;
    next if $next eq "" or $next eq ".";
    if ($next eq "..") { $path =~ s{/[^/]*\z}{}; next }
    my @s = lstat "$path/$next";
    unless (@s) {
      return "$path/$next" if $last and $errno + 0 == ENOENT;
      return undef;
    }
    if (S_ISLNK($s[2])) {
      if ($links++ >= 40) { $errno = ELOOP; return undef }
      my $target = readlink "$path/$next";
      return undef unless defined $target;
      $path = "" if $target =~ m{^/};
      $left = $last ? $target : "$target/$left";
      if (length $left >= $MAX_PATH) { $errno = ENAMETOOLONG; return undef }
      next;
    }
    $path .= "/$next";
  }
  return length $path ? $path : "/";
}

# version 3 does not replace an existing file: link and unlink, so that there is no race with other processes
sub rename_new {
  my ($old, $new) = @_;
  my @s = lstat $old or return failed();
  if (S_ISREG($s[2])) {
    return outcome(unlink $old) if link $old, $new;
    my $e = $errno + 0;
    return failed() unless grep { $e == $_ } EOPNOTSUPP, ENOSYS, EXDEV, EPERM;
  }
  return status($FAILURE) if lstat $new;
  outcome(rename $old, $new);
}

sub read_file {
  my ($handle, $offset, $size) = (bytes(), u64(), u32());
  my $file = $file{$handle} or return status($FAILURE);
  return answer(103, pack "N", 0) unless $size;
  sysseek $file->[0], $offset, SEEK_SET or return failed();
  my $n = sysread $file->[0], my $data, $size < $MAX_DATA ? $size : $MAX_DATA;
  return failed() unless defined $n;
  return status($EOF) unless $n;
  $out .= pack "NCNN", $n + 9, 103, $id, $n;
  $out .= $data;
}

sub write_file {
  my ($handle, $offset, $left) = (bytes(), u64(), u32());
  die $malformed if $at + $left > $stop;
  my $file = $file{$handle} or return status($FAILURE);
  $file->[1] or sysseek $file->[0], $offset, SEEK_SET or return failed();
  my $from = $at;
  do {
    my $n = syswrite $file->[0], $in, $left, $from;
    return failed() unless defined $n or $errno + 0 == EINTR;
    $from += $n || 0;
    $left -= $n || 0;
  } while ($left);
  status($OK);
}

sub open_file {
  my ($path, $asked, $given) = (path(), u32(), attrs());
  my $flags = ($asked & 3) == 3 ? O_RDWR : $asked & 2 ? O_WRONLY : O_RDONLY;
  $flags |= O_APPEND if $asked & 4;
  $flags |= O_CREAT if $asked & 8;
  $flags |= O_TRUNC if $asked & 16;
  $flags |= O_EXCL if $asked & 32;
  sysopen my $file, $path, $flags, exists $given->{mode} ? $given->{mode} : 0666 or return failed();
  binmode $file;
  my $handle = pack "N", $handles++;
  $file{$handle} = [$file, $asked & 4];
  handle($handle);
}

sub read_folder {
  my $folder = $folder{bytes()} or return status($FAILURE);
  my ($opened, $path) = @$folder;
  my ($count, $names) = (0, "");
  while ($count < $BATCH and defined(my $name = readdir $opened)) {
    my @s = lstat "$path$name" or next;
    $names .= pack("N/a* N/a*", $name, long($name, @s)) . packed(@s);
    $count++;
  }
  $count ? answer(104, pack("N", $count) . $names) : status($EOF);
}

my %EXTENDED = (
  "posix-rename\@openssh.com" => ["1", sub { my ($old, $new) = (path(), path()); outcome(rename $old, $new) }],
  "hardlink\@openssh.com" => ["1", sub { my ($old, $new) = (path(), path()); outcome(link $old, $new) }],
  "limits\@openssh.com" => ["1", sub { answer(201, pack "Q>4", $MAX_PACKET, $MAX_DATA, $MAX_DATA, 0) }],
);
$EXTENDED{"fsync\@openssh.com"} = ["1", sub {
  my $file = $file{bytes()} or return status($FAILURE);
  outcome($file->[0]->sync);
}] if $syncs;

my %REQUEST = (
  3 => \&open_file,
  4 => sub {
    my $handle = bytes();
    if (my $file = delete $file{$handle}) { return outcome(close $file->[0]) }
    if (my $folder = delete $folder{$handle}) { return outcome(closedir $folder->[0]) }
    status($MISSING);
  },
  5 => \&read_file,
  6 => \&write_file,
  7 => sub { my $path = path(); stated(lstat $path) },
  8 => sub { my $file = $file{bytes()} or return status($FAILURE); stated(stat $file->[0]) },
  9 => sub { my ($path, $given) = (path(), attrs()); change($path, $given) },
  10 => sub {
    my ($handle, $given) = (bytes(), attrs());
    my $file = $file{$handle} or return status($FAILURE);
    change($file->[0], $given);
  },
  11 => sub {
    my $path = path();
    opendir my $folder, $path or return failed();
    my $handle = pack "N", $handles++;
    $folder{$handle} = [$folder, $path eq "/" ? $path : "$path/"];
    handle($handle);
  },
  12 => \&read_folder,
  13 => sub { my $path = path(); outcome(unlink $path) },
  14 => sub { my ($path, $given) = (path(), attrs()); outcome(mkdir $path, exists $given->{mode} ? $given->{mode} : 0777) },
  15 => sub { my $path = path(); outcome(rmdir $path) },
  16 => sub {
    my $path = path();
    my $found = resolved(length $path ? $path : ".");
    defined $found ? named($found) : failed();
  },
  17 => sub { my $path = path(); stated(stat $path) },
  18 => sub { my ($old, $new) = (path(), path()); rename_new($old, $new) },
  19 => sub { my $path = path(); my $target = readlink $path; defined $target ? named($target) : failed() },
  20 => sub { my ($target, $link) = (path(), path()); outcome(symlink $target, $link) },
  200 => sub { my $request = $EXTENDED{bytes()}; $request ? $request->[1]->() : status($UNSUPPORTED) },
);

# handles one packet; false if the client does not speak SFTP
sub serve {
  my ($type) = @_;
  if ($type == 1) {
    my $offer = join "", map { pack "N/a* N/a*", $_, $EXTENDED{$_}[0] } sort keys %EXTENDED;
    $out .= pack("NCN", length($offer) + 5, 2, 3) . $offer;
    return $greeted = 1;
  }
  return 0 unless $greeted;
  my $request = $REQUEST{$type} or return status($UNSUPPORTED), 1;
  # an exception of perl itself (no memory, a system call that does not exist) fails this request only
  eval { $request->(); 1 } or status(ref $@ ? $BAD : $FAILURE);
  return 1;
}

while (1) {
  while (length($in) - $at >= 9) {
    my ($size, $type, $number) = unpack "NCN", substr $in, $at, 9;
    if ($size < 5 or $size > $MAX_PACKET) { flush(); exit 1 }
    last if length($in) - $at - 4 < $size;
    ($stop, $id) = ($at + 4 + $size, $number);
    $at += 9;
    unless (serve($type)) { flush(); exit 1 }
    $at = $stop;
    flush() if length $out >= $MAX_PACKET;
  }
  flush();
  substr $in, 0, $at, "";
  $at = 0;
  my $n = sysread STDIN, $in, $MAX_PACKET, length $in;
  if (defined $n) { exit 0 unless $n } elsif ($errno + 0 - EINTR) { exit 1 }
}
