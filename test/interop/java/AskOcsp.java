import java.io.FileInputStream;
import java.io.InputStream;
import java.net.URI;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/** For each chain file after root and responder (`-`: from the certificate): good, revoked with its reason, or why not. */
class AskOcsp {
    public static void main(String[] args) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        X509Certificate root = read(factory, args[0]).get(0);
        for (int at = 2; at < args.length; at++)
            System.out.println(verdict(factory, root, args[1], read(factory, args[at])));
    }

    private static List<X509Certificate> read(CertificateFactory factory, String file) throws Exception {
        try (InputStream in = new FileInputStream(file)) {
            List<X509Certificate> found = new ArrayList<>();
            factory.generateCertificates(in).forEach((one) -> found.add((X509Certificate) one));
            return found;
        }
    }

    private static String verdict(
        CertificateFactory factory, X509Certificate root, String responder, List<X509Certificate> chain
    ) throws Exception {
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        checker.setOptions(EnumSet.of(
            PKIXRevocationChecker.Option.ONLY_END_ENTITY, PKIXRevocationChecker.Option.NO_FALLBACK));
        if (!responder.equals("-")) checker.setOcspResponder(new URI(responder));
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        parameters.addCertPathChecker(checker);
        chain.removeIf((one) -> one.equals(root));
        try {
            validator.validate(factory.generateCertPath(chain), parameters);
            return "good";
        } catch (CertPathValidatorException error) {
            if (error.getCause() instanceof CertificateRevokedException)
                return "revoked " + ((CertificateRevokedException) error.getCause()).getRevocationReason();
            return "refused: " + error.getMessage();
        }
    }
}
