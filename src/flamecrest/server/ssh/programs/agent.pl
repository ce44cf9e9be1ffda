# The agent: answers questions about files on standard input and output, in order, and ends with its input. A question
# is a letter, the length of its text (32 bits) and the text. An answer is its length and a text that begins with = (the
# result), - (use SFTP: nothing was changed) or ~ (errno in decimal). First it greets, when all modules have been loaded.
# Names are bytes. It needs perl 5.10 or later with 64-bit integers, and only core modules. sftp_server.pl lists what a
# source that is sent as one line must not contain.
use Errno qw(EACCES EEXIST ENODATA ENOENT ENOSYS EOPNOTSUPP EPERM ERANGE EROFS);
use Fcntl qw(:flock :mode O_CREAT O_EXCL O_NOCTTY O_NOFOLLOW O_NONBLOCK O_RDONLY O_WRONLY SEEK_SET);
# file tests such as -W ask access(2), which knows ACLs and read-only file systems: what the filetest pragma does, which
# some systems install apart from perl
BEGIN { $^H |= 0x00400000 }

my $MAX_QUESTION = 262144;
my $MAX_ANSWER = 1048576;
# microseconds; file systems whose times are whole seconds are not considered here
my $STEP = 20000;
my $fine = eval { require Time::HiRes; Time::HiRes->can("lstat") } ? 1 : 0;
my $in = "";

# The first eleven fields of stat(2) of a path or an open file, the nanoseconds of the fractions of its mtime and its ctime,
# and the time right before in microseconds.
# Time::HiRes gives times as doubles: their whole seconds are exact unless the fraction is 0 or was rounded up to a
# second. Then the seconds come from the plain stat, unless the file was changed between the two.
sub stated {
  my ($file, $follow) = @_;
  my $clock = $fine ? sprintf "%d", 1e6 * Time::HiRes::time() : time . "000000";
  my @plain;
  for (1 .. $fine * 3) {
    my @s = $follow ? Time::HiRes::stat($file) : Time::HiRes::lstat($file) or return;
    my @t = (int $s[8], int $s[9], int $s[10]);
    my @part = map { $s[8 + $_] > 0 ? int(($s[8 + $_] - $t[$_]) * 1e9 + .5) : 0 } 1, 2;
    if ($t[0] == $s[8] or $t[1] == $s[9] or $t[2] == $s[10] or $t[0] < 0 or $t[1] < 0 or $t[2] < 0) {
      @plain = $follow ? stat $file : lstat $file or return;
      next unless $plain[1] == $s[1] and $plain[7] == $s[7] and abs($s[10] - $plain[10]) <= 1;
      @t = @plain[8 .. 10];
    }
    return (@s[0 .. 7], @t, @part, $clock);
  }
  @plain = $follow ? stat $file : lstat $file or return;
  return (@plain[0 .. 10], 0, 0, $clock);
}
sub look {
  my ($path, $follow) = @_;
  my @s = stated($path, $follow);
  return @s ? "=@s" : "~" . ($errno + 0);
}

# the attributes of a regular file, and its content if it is small
sub whole {
  my ($most, $path) = split /\0/, $_[0], 2;
  # only a regular file is opened: to open another may block or have an effect
  my @there = stat $path or return "~" . ($errno + 0);
  return "-" unless S_ISREG($there[2]) and sysopen(my $file, $path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  # regardless of PERL_UNICODE
  binmode $file;
  my @s = stated($file, 1);
  return "-" unless @s and S_ISREG($s[2]);
  return "=@s" if $s[7] > $most;
  my $data;
  my $n = sysread $file, $data, $s[7] + 1;
  return "-" unless defined $n and $n == $s[7];
  # a file that was written meanwhile is left to SFTP. Within a step of its clock two changes may have the same time, so
  # that the content of a file that was changed just now is read twice.
  if ($s[13] - 1e6 * $s[10] - $s[12] / 1e3 < $STEP) {
    my $m = sysseek($file, 0, SEEK_SET) && sysread $file, my $again, $s[7] + 1;
    return "-" unless $m and $m == $n and $again eq $data or not $n;
  }
  my @now = stated($file, 1);
  return "-" unless @now and "@now[1, 7, 9 .. 12]" eq "@s[1, 7, 9 .. 12]";
  return "=@s\0$data";
}

# The number of setxattr(2) for each machine of an ELF header; those of the other calls follow it in the same order. Perl
# has no function for extended attributes, and ACLs are among them.
my %SETXATTR = (62, 188, 183, 5, 243, 5, 258, 5, 21, 209, 22, 224);
my ($SET, $GET, $LIST, $REMOVE) = (0, 3, 6, 9);
my $machine = do {
  my $head = "";
  if (open my $self, "<:raw", "/proc/self/exe") { read $self, $head, 20 }
  $head =~ /^\x7fELF\x02/ ? unpack substr($head, 5, 1) eq "\x01" ? "v" : "n", substr $head, 18 : 0;
};
my $setxattr = $SETXATTR{$machine};
# the number of statx(2)
my %STATX = (62, 332, 183, 291, 243, 291, 258, 291, 21, 383, 22, 379);
my $statx = $STATX{$machine};

# inode, size and nanosecond of birth of a file
sub birth {
  my ($path) = @_;
  my @s = stat $path or return "~" . ($errno + 0);
  my ($buffer, $born) = ("\0" x 256, 0);
  # AT_FDCWD, no flags, STATX_BTIME
  if ($statx and syscall($statx, -100, $path, 0, 0x800, $buffer) == 0 and 0x800 & unpack "L", $buffer) {
    my ($seconds, $part) = unpack "qL", substr $buffer, 80, 12;
    $born = $seconds * 1000000000 + $part;
  }
  return "=$s[1] $s[7] $born";
}

# The kernel makes room for a whole buffer at each call, which takes longer than the call itself: the small one is for
# most answers.
my ($small, $large) = ("\0" x 256, "\0" x 65536);
# attributes that are not the user's, or that a write(2) of other content removes as well
my $not_kept = qr/^(?:trusted|lustre|ceph|glusterfs)\.|^security\.(?:capability|ima|evm)\z/;

# a call on the extended attributes of a path, without following a link, or of an open file
sub xattr {
  my ($call, $file) = @_;
  my $which = ref $file ? fileno $file : $file;
  # the rest of the arguments themselves, no copies: the call writes into one of them
  return syscall $setxattr + $call + (ref $file ? 2 : 1), $which, @_[2 .. $#_];
}
# the answer of a call that fills a buffer; nothing if it fails
sub filled {
  my ($call, $file, @name) = @_;
  for ($small, $large) {
    my $n = xattr($call, $file, @name, $_, length $_);
    return substr $_, 0, $n if $n >= 0;
    return unless $errno + 0 == ERANGE;
  }
  return;
}
# the extended attributes of a file that its replacement must have; nothing if they cannot be read
sub kept {
  my ($file) = @_;
  return unless $setxattr;
  my $names = filled($LIST, $file);
  return unless defined $names or grep { $errno + 0 == $_ } EOPNOTSUPP, ENOSYS;
  my %kept;
  for (split(/\0/, defined $names ? $names : ""), "system.posix_acl_access") {
    my $name = $_;
    next if exists $kept{$name} or $name =~ $not_kept;
    my $value = filled($GET, $file, $name);
    if (defined $value) { $kept{$name} = $value }
    elsif (not grep { $errno + 0 == $_ } ENODATA, EOPNOTSUPP, ENOSYS) { return }
  }
  return \%kept;
}
# gives a new file the group, the extended attributes (ACL) and the mode of the file that it replaces; false if not all of
# it is possible: that file belongs to another user, has other links, its group is not one of ours. The new file is
# accessible to its owner only until it has the group and the ACL.
sub matched {
  my ($file, $path, $mode, @old) = @_;
  my @mine = stat $file;
  return unless @mine and $mine[4] == $old[4] and $old[3] == 1;
  return unless $mine[5] == $old[5] or chown -1, $old[5], $file;
  my $wanted = kept($path) or return;
  my $found = kept($file) or return;
  for my $name (keys %$found) {
    next if exists $wanted->{$name};
    return if xattr($REMOVE, $file, $name) < 0;
  }
  for my $name (keys %$wanted) {
    my $value = $wanted->{$name};
    next if exists $found->{$name} and $found->{$name} eq $value;
    return if xattr($SET, $file, $name, $value, length $value, 0) < 0;
  }
  # last: chown clears mode bits, and chmod those of a group that is not ours
  chmod $mode, $file or return;
  @mine = stat $file;
  return @mine && S_IMODE($mine[2]) == $mode && $mine[5] == $old[5];
}
# the mode of a file after other content was written to it: without the bits that write(2) clears
sub rewritten {
  my $mode = S_IMODE($_[0]) & ~S_ISUID;
  return $mode & S_IXGRP ? $mode & ~S_ISGID : $mode;
}
sub written {
  my ($file, $data, $at, $end) = @_;
  while ($at < $end) {
    my $n = syswrite $file, $data, $end - $at, $at;
    return unless defined $n or $errno + 0 == EINTR;
    $at += $n || 0;
  }
  return 1;
}
# writes other content into a file whose links, owner or rights a replacement could not have. What is longer than the old
# content comes first: a full disk then changes nothing.
sub overwritten {
  my ($path, $data, @old) = @_;
  sysopen my $file, $path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW or return;
  binmode $file;
  my ($size, $new) = ($old[7], length $data);
  my @s = stat $file;
  return unless @s and $s[0] == $old[0] and $s[1] == $old[1] and $s[7] == $size;
  if ($new > $size) {
    unless (sysseek $file, $size, SEEK_SET and written($file, $data, $size, $new)) { truncate $file, $size; return }
  }
  sysseek $file, 0, SEEK_SET and written($file, $data, 0, $size < $new ? $size : $new) and truncate $file, $new
    or die $errno + 0;
  @s = stated($file, 1);
  close $file or die $errno + 0;
  return @s;
}

# writes a file: beside its target, which it then replaces, or into the existing one
sub put {
  my ($mode, $new, $path, $data) = split /\0/, $_[0], 4;
  visit($new);
  my @old = lstat $path;
  return "-" unless @old ? S_ISREG($old[2]) && $old[2] & 0222 && -W $path : $errno + 0 == ENOENT;
  my $first = @old ? 0600 : $mode eq "" ? 0666 : $mode & 0777 | 0200;
  my @s;
  if (sysopen my $file, $new, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, $first) {
    binmode $file;
    my $complete = written($file, $data, 0, length $data);
    my $ready = $complete && eval {
      @old ? matched($file, $path, $mode eq "" ? rewritten($old[2]) : $mode, @old) : $mode eq "" || chmod $mode, $file
    };
    @s = stated($file, 1);
    $complete = close($file) && $complete;
    return join " ", @old ? "=0" : "=1", landed($path, @s) if $complete and $ready and @s and rename $new, $path;
    my $refused = (not $ready or refused());
    unlink $new;
    return "-" unless $complete and $refused;
  } elsif (not refused()) { return "-" }
  # a write to the existing file keeps everything, and needs no room in its folder
  return "-" unless @old and $mode eq "";
  @s = eval { overwritten($path, $data, @old) };
  return $@ =~ /^([0-9]+)/ ? "~$1" : @s ? "=0 @s" : "-";
}
# whether the last call failed because the user may not do it there
sub refused { return scalar grep { $errno + 0 == $_ } EACCES, EPERM, EROFS }
# the attributes of a file after it was renamed to its path: those of before if it was replaced since
sub landed {
  my ($path, @s) = @_;
  my @now = stated($path, 0);
  return @now && $now[0] == $s[0] && $now[1] == $s[1] ? @now : @s;
}

# what a write will replace: the umask (empty if an ACL of the folder counts in its place), the path behind a link, and of
# an existing file whether it is ours, and its attributes
sub target {
  my ($path) = @_;
  my @old = stated($path, 0);
  if (@old and S_ISLNK($old[2])) {
    # a link that the kernel does not follow for us is not followed here (fs.protected_symlinks)
    return $errno + 0 == EACCES ? "~" . EACCES : "-" unless stat $path;
    $path = eval { require Cwd; Cwd::realpath($path) };
    return "-" unless defined $path and @old = stated($path, 0);
  }
  return "-" if @old ? not S_ISREG($old[2]) : $errno + 0 - ENOENT;
  # that nobody may write it is left to SFTP: the superuser may
  return "-" if @old and not $old[2] & 0222;
  return "~" . ($errno + 0) if @old and not -W $path;
  my ($folder) = $path =~ m{^(.*/)}s or return "-";
  return "~" . EROFS unless @old or -W $folder or $errno + 0 - EROFS;
  return join "\0", "=" . (inherited($folder) ? "" : umask), $path, @old ? (-O $path ? 1 : 0, "@old") : ("", "");
}
# whether new files in a folder get the rights of an ACL, which the umask does not change; true if it is not known
sub inherited {
  my ($folder) = @_;
  return 1 unless $setxattr;
  for (qw(system.posix_acl_default system.nfs4_acl)) {
    my $name = $_;
    return 1 if defined filled($GET, $folder, $name);
  }
  return 0;
}
# replaces a file by a temporary one that holds the new content: =1 and the new attributes, =0 if the existing file must
# be written to instead, =2 if it does not have the known attributes, or =3 if the temporary file is not the one that was
# made: others who may write to the folder can put another file in its place, as one of ours whose mode would be
# changed. With "new" as known there must be no file.
sub replace {
  my ($mode, $new, $path, $known, $made) = split /\0/, $_[0], 5;
  visit($new);
  my @s = stated($new, 0);
  return "-" unless @s;
  my ($uid, $size, $mtime) = split / /, $made;
  return "=3" unless S_ISREG($s[2]) and $s[4] == $uid and $s[3] < 2 and $s[7] == $size and abs($s[9] - $mtime) <= 60;
  if ($known eq "new") {
    unless (link $new, $path) { return $errno + 0 == EEXIST ? "=2" : "-" }
    unlink $new;
    return join " ", "=1", landed($path, @s);
  }
  my @old = lstat $path;
  return "-" if @old ? not (S_ISREG($old[2]) and $old[2] & 0222) : $errno + 0 - ENOENT;
  return "~" . ($errno + 0) if @old and not -W $path;
  if ($known ne "") {
    my $lock = @old && held($path);
    @old = stated($path, 0);
    return "=2" unless @old and "@old[1, 7, 9, 11, 10, 12]" eq $known;
    return replaced($mode, $new, $path, \@s, @old);
  }
  return replaced($mode, $new, $path, \@s, @old);
}
# locks a file against other agents that replace it; not for long if a program holds it
sub held {
  my ($path) = @_;
  sysopen my $file, $path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW or return;
  for (1 .. 50) {
    return $file if flock $file, LOCK_EX | LOCK_NB;
    select undef, undef, undef, 0.001;
  }
  return;
}
sub replaced {
  my ($mode, $new, $path, $s, @old) = @_;
  my @s = @$s;
  if (@old) {
    sysopen my $file, $new, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW or return "=0";
    my @opened = stat $file;
    return "=3" unless @opened and "@opened[0, 1]" eq "@s[0, 1]";
    return "=0" unless matched($file, $path, $mode eq "" ? rewritten($old[2]) : $mode, @old);
    @s = stated($file, 1) or return "-";
  }
  return join " ", "=1", landed($path, @s) if rename $new, $path;
  return @old && refused() ? "=0" : "~" . ($errno + 0);
}

# What killed operations leave in a folder: their names, whether they may be folders, and the seconds since the last write
# after which none of them can still run. What is given as mtime to a new file is not given as its atime. The atime of a
# link says nothing: whoever lists the folder may change it.
my @LEFT = (
  [qr/^\.flamecrest-(?:upload|unpack)-[0-9a-f]{16}\z/, 0, 86400],
  [qr/^\.f7t_(?:copy|extract|archive)_[A-Za-z0-9]{10}(?:\.list)?\z/, 1, 691200],
);
my (%visited, @visits);
$SIG{CHLD} = "IGNORE";
# a limit of the size of files (ulimit -f): the write fails with EFBIG
$SIG{XFSZ} = "IGNORE";

# The identity of a directory that was made by a script (beside.py) of ours. Others who may write to its folder can give
# its name to any directory of ours, so that its mode and its entries count as well. Only those entries are removed.
my $WORK = "new list modes";
sub worked {
  my ($path) = @_;
  my @s = lstat $path or return;
  return unless S_ISDIR($s[2]) and -O $path and not $s[2] & 077 and opendir(my $opened, $path);
  while (defined(my $name = readdir $opened)) { return unless $name =~ /^(?:\.\.?|new|list|modes)\z/ }
  return "@s[0, 1]";
}
# removes an entry if it was left behind by an operation of ours; true if so
sub left {
  my ($folder, $name) = @_;
  return 0 unless substr($name, 0, 2) eq ".f";
  for (@LEFT) {
    my ($pattern, $folders, $age) = @$_;
    next unless $name =~ $pattern;
    my @s = lstat "$folder/$name" or return 0;
    # of the link itself: -O follows a path
    my $mine = -O _;
    my $link = S_ISLNK($s[2]) && substr($name, 0, 19) eq ".flamecrest-unpack-";
    return 0 unless $mine and S_ISREG($s[2]) || $link || $folders && S_ISDIR($s[2]);
    my $last = S_ISREG($s[2]) && $s[8] > $s[9] ? $s[8] : $s[9];
    return 0 if $last + $age > time;
    return unlink "$folder/$name" if $link or S_ISREG($s[2]);
    my $made = worked("$folder/$name") or return 0;
    my $pid = fork;
    if (defined $pid and $pid == 0) {
      open STDIN, "<", "/dev/null";
      open STDOUT, ">", "/dev/null";
      open STDERR, ">", "/dev/null";
      my @here = chdir "$folder/$name" ? lstat "." : ();
      exec "sh", "-c", q(rm -rf $1; rmdir -- "$0"), "$folder/$name", $WORK if @here and "@here[0, 1]" eq $made;
      kill 9, $$;
    }
    return defined $pid;
  }
  return 0;
}
# notes a folder in which a temporary file was made: it is searched when there are no questions
sub visit {
  my ($folder) = $_[0] =~ m{^(/.*)/}s or return;
  return if $visited{$folder} and time - $visited{$folder} < 600;
  %visited = () if keys %visited > 1024;
  $visited{$folder} = time;
  push @visits, $folder;
}
sub search {
  my ($folder) = @_;
  opendir my $opened, $folder or return;
  while (defined(my $name = readdir $opened)) { left($folder, $name) }
}
# whether there is input
sub asked {
  my $bits = "";
  vec($bits, 0, 1) = 1;
  return select $bits, undef, undef, 0;
}
# creates an empty file (f) or a directory (d; p: its parents as well, and it may exist), as the umask has it: =1, or =0 if
# the path exists
sub create {
  my ($what, $path) = split /\0/, $_[0], 2;
  if ($what eq "f") {
    my $file;
    return sysopen($file, $path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666) ? "=1" : not_created();
  }
  if ($what eq "p") {
    my ($at, @parts) = ("", grep { length } split m{/}, $path);
    for my $part (@parts) { mkdir $at .= "/$part", 0777 }
    return -d $path ? "=1" : "-";
  }
  return mkdir($path, 0777) ? "=1" : not_created();
}
sub not_created { return $errno + 0 == EEXIST ? "=0" : $errno + 0 == ENOENT ? "~" . ENOENT : "-" }

# the entries of a directory that is not too large: the names of the owners, then mode, uid, gid, size and mtime of each
# entry, then the name of each entry, followed by the target if it is a link
sub list {
  my ($how, $most, $path) = split /\0/, $_[0], 3;
  my ($hidden, $follow) = (index($how, "h") >= 0, index($how, "f") >= 0);
  my @s = $follow || substr($path, -1) eq "/" ? stat $path : lstat $path;
  return "-" unless @s and S_ISDIR($s[2]) and opendir(my $folder, $path);
  return "-" unless chdir $folder;
  my ($count, $numbers, $names, $uid, $gid, %users, %groups) = (0, "", "", -1, -1);
  my ($x, $mode, $u, $g, $size, $mtime);
  $errno = 0;
  while (defined(my $name = readdir $folder)) {
    if (substr($name, 0, 1) eq ".") {
      my $gone = $name eq "." || $name eq ".." || left($path, $name);
      $errno = 0;
      next if $gone or not $hidden;
    }
    return "-" if $count++ == $most or length $names > $MAX_ANSWER;
    unless (($x, $x, $mode, $x, $u, $g, $x, $size, $x, $mtime) = lstat $name) {
      $errno = 0;
      next;
    }
    $numbers .= "$mode $u $g $size $mtime ";
    $names .= "$name\0";
    unless ($u == $uid and $g == $gid) {
      ($uid, $gid) = ($u, $g);
      $users{$u} = $groups{$g} = 1;
    }
    if (($mode & 0170000) == 0120000) {
      return "-" if $follow;
      my $target = readlink $name;
      $names .= (defined $target ? $target : "") . "\0";
      $errno = 0;
    }
  }
  return "-" if $errno + 0;
  my @users = map { $_, owner(\%user, $_, sub { getpwuid $_[0] }) } keys %users;
  my @groups = map { $_, owner(\%group, $_, sub { getgrgid $_[0] }) } keys %groups;
  my $answer = "=" . join(":", @users) . "\0" . join(":", @groups) . "\0$numbers\0$names";
  return length $answer > $MAX_ANSWER ? "-" : $answer;
}

my %ANSWER = (
  l => sub { look($_[0], 0) },
  s => sub { look($_[0], 1) },
  r => \&whole,
  w => \&put,
  b => sub { birth($_[0]) },
  t => sub { target($_[0]) },
  e => \&replace,
  m => \&create,
  d => sub { my $answer = list($_[0]); chdir "/"; $answer },
);

$out = "flamecrest agent\n";
while (1) {
  my $at = 0;
  while (length($in) - $at >= 5) {
    my ($letter, $size) = unpack "aN", substr $in, $at, 5;
    if ($size > $MAX_QUESTION) { flush(); exit 1 }
    last if length($in) - $at - 5 < $size;
    my $ask = $ANSWER{$letter};
    my $answer = $ask ? eval { $ask->(substr $in, $at + 5, $size) } : undef;
    $out .= pack "N/a*", defined $answer ? $answer : "-";
    $at += 5 + $size;
    flush() if length $out >= 32768;
  }
  flush();
  substr $in, 0, $at, "";
  while (@visits and not asked()) { search(shift @visits) }
  my $n = sysread STDIN, $in, 65536, length $in;
  if (defined $n) { exit 0 unless $n } elsif ($errno + 0 - EINTR) { exit 1 }
}
